import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";

import { Semaphore } from "#async/semaphore.ts";
import type { Repository } from "#oci/reference.ts";
import type { KeyringEntry } from "./keyring.ts";
import { ProviderAnswers } from "./provider-answers.ts";
import type { AnswerScope, ProviderResponse } from "./provider-response.ts";

const signal = new AbortController().signal;
const scope = { signal, life: signal };
const hourMs = 3_600_000;

const web = { registry: "r.io", path: "shop/web" };
const api = { registry: "r.io", path: "shop/api" };
const other = { registry: "other.io", path: "shop/web" };

/** A provider that answers when it is told to, or at once. */
class FakeAsk {
  readonly asked: string[] = [];
  readonly failures: string[] = [];
  readonly #answers: ProviderAnswers;
  nowMs = 0;
  scope: AnswerScope = "Registry";
  cacheMs: number | undefined;
  /** Says whether the next answer for an image is a failure. */
  isBroken: (image: string) => boolean = () => false;
  /** Answers wait for it. */
  gate: Promise<void> = Promise.resolve();

  constructor({ defaultCacheMs = hourMs, slots = 4 } = {}) {
    this.#answers = new ProviderAnswers({
      ask: async (repository, options) => this.#ask(repository, options),
      slots: { proven: new Semaphore(slots), unproven: new Semaphore(slots) },
      defaultCacheMs,
      onFailure: ({ registry }, error) => this.failures.push(`${registry} ${String(error)}`),
      monotonicMs: () => this.nowMs,
    });
  }

  /** For which image the entries are that are given for one; "" if there are none. */
  async given(repository: Repository, options = scope): Promise<string> {
    const [entry] = await this.#answers.entriesFor(repository, options);
    return entry?.path ?? "";
  }

  async settled(): Promise<void> {
    await this.#answers.settled();
  }

  async #ask(
    { registry, path }: Repository,
    { signal }: { signal: AbortSignal },
  ): Promise<ProviderResponse> {
    const image = `${registry}/${path}`;
    this.asked.push(image);
    await this.gate;
    signal.throwIfAborted();
    if (this.isBroken(image)) throw new Error("broken");
    const entry: KeyringEntry = { registry, path: image, login: { identityToken: image } };
    return { scope: this.scope, cacheMs: this.cacheMs, entries: [entry], problems: [] };
  }
}

describe("ProviderAnswers", () => {
  const scopes: Record<AnswerScope, string[]> = {
    Image: ["r.io/shop/web", "r.io/shop/api", "other.io/shop/web"],
    Registry: ["r.io/shop/web", "other.io/shop/web"],
    Global: ["r.io/shop/web"],
  };
  for (const [name, asked] of Object.entries(scopes)) {
    test(`an answer for ${name} counts for that and no more`, async () => {
      const fake = new FakeAsk();
      fake.scope = name === "Image" || name === "Global" ? name : "Registry";
      for (const repository of [web, web, api, other, web]) await fake.given(repository);

      assert.deepEqual(fake.asked, asked);
    });
  }

  test("an answer counts as long as it says, from when it was asked for", async () => {
    const fake = new FakeAsk();
    fake.cacheMs = 1_000;
    const { promise, resolve } = Promise.withResolvers<void>();
    fake.gate = promise;
    const first = fake.given(web);
    await Promise.resolve();
    fake.nowMs = 400; // The program took so long.
    resolve();
    await first;
    for (fake.nowMs of [999, 1_000]) await fake.given(web);

    assert.equal(fake.asked.length, 2);
  });

  test("an answer that does not say how long counts for the default", async () => {
    const fake = new FakeAsk({ defaultCacheMs: 5_000 });
    for (fake.nowMs of [0, 4_999, 5_000]) await fake.given(web);

    assert.equal(fake.asked.length, 2);
  });

  test("an answer for no time is given and not kept", async () => {
    const fake = new FakeAsk();
    fake.cacheMs = 0;
    assert.equal(await fake.given(web), "r.io/shop/web");
    await fake.given(web);

    assert.equal(fake.asked.length, 2);
  });

  test("all who wait for a registry share one run, and its answer", async () => {
    const fake = new FakeAsk();
    fake.cacheMs = 0;
    const given = await Promise.all([web, web, api].map(async (each) => fake.given(each)));

    assert.deepEqual(given, Array(3).fill("r.io/shop/web"));
    assert.equal(fake.asked.length, 1);
  });

  test("who waits is not given what turns out to be for another image", async () => {
    const fake = new FakeAsk();
    fake.scope = "Image";
    const given = await Promise.all([web, api, api].map(async (each) => fake.given(each)));

    assert.deepEqual(given, ["r.io/shop/web", "r.io/shop/api", "r.io/shop/api"]);
    assert.equal(fake.asked.length, 2);
  });

  test("an answer for all registries spares those that wait for a slot", async () => {
    const fake = new FakeAsk({ slots: 1 });
    fake.scope = "Global";
    await Promise.all([web, other].map(async (each) => fake.given(each)));

    assert.equal(fake.asked.length, 1);
  });

  test("no more run at once than there are slots", async () => {
    const fake = new FakeAsk({ slots: 2 });
    const { promise, resolve } = Promise.withResolvers<void>();
    fake.gate = promise;
    const hosts = ["a.io", "b.io", "c.io"];
    const given = hosts.map(async (registry) => fake.given({ registry, path: "x" }));
    await new Promise(setImmediate);
    assert.equal(fake.asked.length, 2);
    resolve();
    await Promise.all(given);

    assert.equal(fake.asked.length, 3);
  });

  test("what had an answer before waits for nothing that never had one", async () => {
    const fake = new FakeAsk({ slots: 1 });
    fake.cacheMs = 1_000;
    await fake.given(web);
    fake.nowMs = 1_000;
    const { promise, resolve } = Promise.withResolvers<void>();
    fake.gate = promise;
    const madeUp = ["a.io", "b.io", "c.io"].map(async (registry) =>
      fake.given({ registry, path: "x" }),
    );
    await new Promise(setImmediate);
    fake.gate = Promise.resolve();

    assert.equal(await fake.given(web), "r.io/shop/web");
    resolve();
    await Promise.all(madeUp);
  });

  test("a failure gives nothing, and is asked again after 10 s, then 20 s, at most 2 min", async () => {
    const fake = new FakeAsk();
    fake.isBroken = () => true;
    const askedAtMs: number[] = [];
    for (; fake.nowMs <= 600_000; fake.nowMs += 1_000) {
      const before = fake.asked.length;
      assert.equal(await fake.given(web), "");
      if (fake.asked.length > before) askedAtMs.push(fake.nowMs / 1_000);
    }

    assert.deepEqual(askedAtMs, [0, 10, 30, 70, 150, 270, 390, 510]);
    assert.equal(fake.failures[0], "r.io Error: broken");
  });

  test("a program that fails is started once for a registry, not for each image", async () => {
    const fake = new FakeAsk();
    fake.isBroken = () => true;
    for (let image = 0; image < 1_000; image++) {
      await fake.given({ registry: "r.io", path: `made-up/${image}` });
    }

    assert.equal(fake.asked.length, 1);
  });

  test("a failure for a made-up image keeps no answer from others if answers are for images", async () => {
    const fake = new FakeAsk();
    fake.scope = "Image";
    fake.isBroken = (image) => image.includes("made-up");
    await fake.given(web);
    assert.equal(await fake.given({ registry: "r.io", path: "made-up" }), "");

    assert.equal(await fake.given(api), "r.io/shop/api");
  });

  test("an answer for all registries wins over a failure for one", async () => {
    const fake = new FakeAsk();
    fake.scope = "Global";
    fake.isBroken = (image) => image.startsWith("r.io");
    assert.equal(await fake.given(web), "");
    await fake.given(other);

    assert.equal(await fake.given(web), "other.io/shop/web");
  });

  test("a success ends the row of failures", async () => {
    const fake = new FakeAsk();
    fake.cacheMs = 1;
    for (const [nowMs, isBroken, asked] of [
      [0, true, 1],
      [10_000, false, 2],
      [20_000, true, 3],
      [30_000, true, 4],
    ] as const) {
      fake.nowMs = nowMs;
      fake.isBroken = () => isBroken;
      await fake.given(web);
      assert.equal(fake.asked.length, asked);
    }
  });

  test("who leaves does not end the run: the next one has its answer", async () => {
    const fake = new FakeAsk();
    const { promise, resolve } = Promise.withResolvers<void>();
    fake.gate = promise;
    const impatient = new AbortController();
    const first = fake.given(web, { signal: impatient.signal, life: signal });
    impatient.abort(new Error("enough"));
    await assert.rejects(first, /enough/);
    resolve();
    await fake.settled();

    assert.equal(await fake.given(web), "r.io/shop/web");
    assert.equal(fake.asked.length, 1);
  });

  test("the end of its life is no failure", async () => {
    const fake = new FakeAsk();
    const life = new AbortController();
    const { promise, resolve } = Promise.withResolvers<void>();
    fake.gate = promise;
    const asking = assert.rejects(fake.given(web, { signal, life: life.signal }), /the end/);
    life.abort(new Error("the end"));
    resolve();
    await asking;
    await fake.settled();

    assert.deepEqual(fake.failures, []);
  });

  test("nobody is given what counts for another image or registry", async () => {
    const repository = fc.record({
      registry: fc.constantFrom("a.io", "b.io"),
      path: fc.constantFrom("x", "y", "z"),
    });
    const step = fc.record({
      repository,
      scope: fc.constantFrom<AnswerScope>("Image", "Registry"),
      passMs: fc.nat(20_000),
      isBroken: fc.boolean(),
    });
    const steps = fc.array(step, { maxLength: 30 });
    await fc.assert(
      fc.asyncProperty(steps, async (all) => {
        const fake = new FakeAsk({ defaultCacheMs: 15_000 });
        await Promise.all(
          all.map(async ({ repository: { registry, path }, scope, passMs, isBroken }) => {
            fake.nowMs += passMs;
            fake.scope = scope;
            fake.isBroken = () => isBroken;
            const image = await fake.given({ registry, path });
            assert.ok(image === "" || image.startsWith(`${registry}/`));
          }),
        );
      }),
    );
  });
});
