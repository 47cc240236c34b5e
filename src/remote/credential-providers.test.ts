import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";

import { parseReference } from "#oci/reference.ts";
import { jsonLog } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import {
  anAnswer,
  aProvider,
  installFake,
  startsIn,
  type FakeProvider,
} from "#test/credential-providers.ts";
import { CredentialProviders, type CredentialProvidersOptions } from "./credential-providers.ts";
import type { CredentialProvider } from "./provider-config.ts";

const anna = { username: "anna", password: "anemone-red" };
const ben = { username: "ben", password: "barnacle-blue" };

/** Real programs in a folder of their own, and what is logged about them. */
class World implements AsyncDisposable {
  readonly #folder: string;
  readonly lines: string[] = [];
  readonly metrics = new Registry();

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async create(): Promise<World> {
    const folder = await mkdtemp(join(tmpdir(), "coral-"));
    for (const name of ["fake", "other"]) await installFake(folder, name);
    return new World(folder);
  }

  path(name: string): string {
    return join(this.#folder, name);
  }

  providers(
    providers: readonly CredentialProvider[],
    options: Partial<CredentialProvidersOptions> = {},
  ): CredentialProviders {
    return new CredentialProviders({
      providers,
      folder: this.#folder,
      environment: process.env,
      log: jsonLog({ level: "debug", write: (line) => this.lines.push(line) }),
      metrics: this.metrics,
      ...options,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#folder, { recursive: true });
  }
}

function answering(logins: Parameters<typeof anAnswer>[0]): FakeProvider {
  return { answer: anAnswer(logins, { cacheDuration: "1h" }) };
}

describe("CredentialProviders", { timeout: 60_000 }, () => {
  test("gives the logins of all programs that are for an image, the most fitting first", async ({
    signal,
  }) => {
    await using world = await World.create();
    await using providers = world.providers([
      aProvider(["*.r.io"], answering({ "*.r.io": anna })),
      aProvider(["eu.r.io/shop"], answering({ "eu.r.io/shop": ben }), { name: "other" }),
    ]);

    const shop = parseReference("eu.r.io/shop/web:1");
    assert.deepEqual(await providers.loginsFor(shop, { signal }), [ben, anna]);
    const blog = parseReference("eu.r.io/blog/web:1");
    assert.deepEqual(await providers.loginsFor(blog, { signal }), [anna]);
  });

  test("starts no program for an image that it is not for", async ({ signal }) => {
    await using world = await World.create();
    const recordIn = world.path("starts");
    const does = { ...answering({ "*": anna }), recordIn };
    await using providers = world.providers([
      aProvider(["*.r.io", "r.io:5000", "other.io/team"], does),
    ]);

    const foreign = ["r.io/x", "a.b.r.io/x", "eu.r.io:5000/x", "r.io:5001/x", "other.io/teams/x"];
    for (const reference of foreign.map(parseReference)) {
      assert.equal(providers.isFor(reference), false);
      assert.deepEqual(await providers.loginsFor(reference, { signal }), []);
    }
    assert.deepEqual(startsIn(recordIn), []);
    for (const reference of ["eu.r.io/x", "r.io:5000/x", "other.io/team/x"].map(parseReference)) {
      assert.equal(providers.isFor(reference), true);
    }
  });

  test("gives a login to no host but that for which the program gave it", async ({ signal }) => {
    await using world = await World.create();
    const answer = anAnswer({ "eu.r.io": anna, "r.io": ben }, { cacheKeyType: "Global" });
    await using providers = world.providers([aProvider(["*.r.io"], { answer })]);

    for (const host of ["us.r.io", "eu.r.io.evil.r.io", "eu.r.io:80"]) {
      assert.deepEqual(await providers.loginsFor({ registry: host, path: "x" }, { signal }), []);
    }
  });

  test("a program that fails gives no login and is told of, and others go on", async ({
    signal,
  }) => {
    await using world = await World.create();
    const failing = { exitCode: 1, stderr: "no identity" };
    await using providers = world.providers([
      aProvider(["r.io"], failing),
      aProvider(["r.io"], answering({ "r.io": ben }), { name: "other" }),
    ]);
    const logins = await providers.loginsFor(parseReference("r.io/x"), { signal });

    assert.deepEqual(logins, [ben]);
    assert.equal(world.lines.length, 1);
    const [line = ""] = world.lines;
    assert.match(line, /"provider":"fake","registry":"r.io".*exit code 1: no identity/);
    const page = world.metrics.render();
    assert.match(page, /^coral_credential_provider_runs_total\{result="ok"\} 1$/m);
    assert.match(page, /^coral_credential_provider_runs_total\{result="error"\} 1$/m);
  });

  test("tells what of an answer is of no use, without the login", async ({ signal }) => {
    await using world = await World.create();
    const answer = anAnswer({ "r.io": anna, "not a host": ben });
    await using providers = world.providers([aProvider(["r.io"], { answer })]);
    const logins = await providers.loginsFor(parseReference("r.io/x"), { signal });

    assert.deepEqual(logins, [anna]);
    assert.equal(world.lines.length, 1);
    assert.ok(!/anna|ben|anemone|barnacle|not a host/.test(world.lines.join()));
  });

  test("a program that was put right is asked again", async ({ signal }) => {
    await using world = await World.create();
    let nowMs = 0;
    const provider = aProvider(["r.io"], answering({ "r.io": anna }), { name: "late" });
    await using providers = world.providers([provider], { monotonicMs: () => nowMs });
    const reference = parseReference("r.io/x");
    assert.deepEqual(await providers.loginsFor(reference, { signal }), []);
    await installFake(world.path("."), "late");
    nowMs = 10_000;

    assert.deepEqual(await providers.loginsFor(reference, { signal }), [anna]);
  });

  test("its end kills what runs, and nobody waits for ever", async ({ signal }) => {
    await using world = await World.create();
    const recordIn = world.path("starts");
    const providers = world.providers([aProvider(["r.io"], { delayMs: 600_000, recordIn })]);
    const asking = assert.rejects(
      providers.loginsFor(parseReference("r.io/x"), { signal }),
      /The credential providers end/,
    );
    while (startsIn(recordIn).length === 0) await new Promise((go) => setTimeout(go, 20));
    await providers[Symbol.asyncDispose]();
    await asking;

    const [start] = startsIn(recordIn);
    assert.ok(start);
    assert.throws(() => process.kill(start.pid, 0), { code: "ESRCH" });
  });

  test("the revision changes with the providers, and not with their variables' values", async () => {
    await using world = await World.create();
    const revisionOf = (...providers: CredentialProvider[]): string =>
      world.providers(providers).revision;
    const provider = aProvider(["r.io"], {}, { env: { A: "one" } });
    const revision = revisionOf(provider);

    assert.match(revision, /^[0-9a-f]{16}$/);
    assert.equal(revisionOf(provider), revision);
    assert.equal(revisionOf({ ...provider, env: { A: "two" } }), revision);
    for (const changed of [
      { ...provider, name: "other" },
      { ...provider, places: [] },
      { ...provider, args: [] },
      { ...provider, env: { B: "one" } },
    ]) {
      assert.notEqual(revisionOf(changed), revision);
    }
    assert.notEqual(revisionOf(), revision);
  });
});
