import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { describe, test, type TestContext } from "node:test";
import { setImmediate } from "node:timers/promises";

import type { Image } from "#api/v1/image.ts";
import { RegistryError } from "#remote/registry-error.ts";
import { silentLog } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import { anImage } from "#test/kinds.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { controllerMetrics } from "#controller/metrics.ts";
import type { RegistryLookup } from "./registry-lookup.ts";
import { Resolver } from "./resolver.ts";

const key = "team/tools";
const debian = "docker.io/library/debian:bookworm";
const [digestA, digestB] = ["a", "b"].map((digit) => `sha256:${digit.repeat(64)}`);
const intervalMs = 60_000;

/** A registry whose answers a test gives. */
class TestRegistry implements RegistryLookup {
  readonly asked: string[] = [];
  digest = digestA ?? "";
  tagList: readonly string[] = [];
  error: RegistryError | undefined;
  /** What `resolve` waits for. */
  gate: Promise<void> = Promise.resolve();

  async resolve(reference: string): Promise<{ digest: string }> {
    this.asked.push(`HEAD ${reference}`);
    await this.gate;
    if (this.error) throw this.error;
    return { digest: this.digest };
  }

  async sizes(
    reference: string,
    _digest: string,
    { isWanted }: { isWanted: (platform: string) => boolean },
  ): Promise<{ platform: string; sizeBytes: number }[]> {
    this.asked.push(`GET ${reference}`);
    const sizes = [
      { platform: "linux/amd64", sizeBytes: 10 },
      { platform: "linux/arm64/v8", sizeBytes: 11 },
      { platform: "linux/s390x", sizeBytes: 12 },
      { platform: "windows/amd64", sizeBytes: 99 },
    ];
    return sizes.filter(({ platform }) => isWanted(platform));
  }

  async tags(repository: string): Promise<readonly string[]> {
    this.asked.push(`TAGS ${repository}`);
    if (this.error) throw this.error;
    return this.tagList;
  }
}

interface World {
  resolver: Resolver;
  /** Of the cluster's nodes. */
  platforms: { current: ReadonlySet<string> };
  registry: TestRegistry;
  clock: ManualClock;
  images: Map<string, Image>;
  told: { key: string; afterMs: number }[];
}

function aWorld(t: TestContext, ...images: Image[]): World {
  const registry = new TestRegistry();
  const clock = new ManualClock();
  const told: World["told"] = [];
  const platforms = { current: new Set(["linux/amd64", "linux/arm64"]) };
  const byKey = new Map(
    images.map((image) => [`${image.metadata.namespace}/${image.metadata.name}`, image]),
  );
  const metrics = new Registry();
  const resolver = new Resolver({
    registry,
    images: {
      get: (name) => byKey.get(typeof name === "string" ? name : `${name.namespace}/${name.name}`),
      list: () => [...byKey.values()],
    },
    loginsFor: async () => [],
    platforms: () => platforms.current,
    onFound: (name, afterMs) => void told.push({ key: name, afterMs }),
    intervalMs,
    clock,
    random: () => 0.5,
    log: silentLog,
    metrics,
    lookups: controllerMetrics(metrics).lookups,
  });
  const stop = new AbortController();
  const running = resolver.run(stop.signal);
  t.after(async () => {
    stop.abort(new Error("The test is over"));
    await running;
  });
  return { resolver, platforms, registry, clock, images: byKey, told };
}

/** Lets everything happen that waits for no time to pass. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 100; turn++) await setImmediate();
}

/** Waits for something that takes work, but no time of the clock. */
async function until(what: string, look: () => boolean): Promise<void> {
  for (const end = Date.now() + 30_000; !look(); await setImmediate()) {
    assert.ok(Date.now() < end, `${what} within 30 s`);
  }
}

describe("Resolver", () => {
  test("asks once what a reference names, and keeps the sizes of the nodes' platforms", async (t) => {
    const image = anImage();
    const { resolver, registry, clock, told } = aWorld(t, image);
    resolver.begin(image, undefined, undefined);

    assert.equal(resolver.found(image, debian), undefined);
    await settle();
    assert.deepEqual(resolver.found(image, debian), {
      digest: digestA,
      sizes: [
        { platform: "linux/amd64", sizeBytes: 10 },
        { platform: "linux/arm64", sizeBytes: 11 },
      ],
    });
    await clock.advance(intervalMs * 100);
    await settle();
    assert.deepEqual(registry.asked, [`HEAD ${debian}`, `GET ${debian}`]);
    assert.deepEqual(told, [{ key, afterMs: 0 }]);
  });

  test("takes over what an earlier leader knew without asking", async (t) => {
    const image = anImage();
    const { resolver, registry, clock } = aWorld(t, image);
    const digest = digestA ?? "";
    const sizes = ["linux/amd64", "linux/arm64"].map((platform) => ({ platform, sizeBytes: 10 }));
    const plan = { selector: [], priority: 0, images: [{ reference: debian, digest, sizes }] };
    resolver.begin(image, plan, undefined);

    assert.deepEqual(resolver.found(image, debian), { digest, sizes });
    await clock.advance(intervalMs * 100);
    await settle();
    assert.deepEqual(registry.asked, []);
  });

  // What an earlier leader knew passed for all that there is to know: such nodes pulled unchecked.
  test("reads the sizes for a platform that joined while nobody led, in an interval", async (t) => {
    const image = anImage();
    const { resolver, registry, clock } = aWorld(t, image);
    const digest = digestA ?? "";
    const sizes = [{ platform: "linux/amd64", sizeBytes: 10 }];
    const plan = { selector: [], priority: 0, images: [{ reference: debian, digest, sizes }] };
    resolver.begin(image, plan, undefined);
    await settle();
    assert.deepEqual(registry.asked, []);
    await clock.advance(intervalMs);
    await settle();

    assert.deepEqual(resolver.found(image, debian)?.sizes, [
      ...sizes,
      { platform: "linux/arm64", sizeBytes: 11 },
    ]);
    await clock.advance(intervalMs * 100);
    await settle();
    assert.deepEqual(registry.asked, [`HEAD ${debian}`, `GET ${debian}`]);
  });

  test("follows a tag that moves, with HEAD alone while it does not", async (t) => {
    const image = anImage({ imagePullPolicy: "Always" });
    const { resolver, registry, clock } = aWorld(t, image);
    resolver.begin(image, undefined, undefined);
    resolver.found(image, debian);
    await settle();
    registry.asked.length = 0;
    await clock.advance(intervalMs);
    await settle();
    assert.deepEqual(registry.asked, [`HEAD ${debian}`]);

    registry.digest = digestB ?? "";
    await clock.advance(intervalMs);
    await settle();
    assert.equal(resolver.found(image, debian)?.digest, digestB);
  });

  test("begins to follow a tag when the Image comes to want that", async (t) => {
    const image = anImage();
    const { resolver, registry, clock, images } = aWorld(t, image);
    resolver.begin(image, undefined, undefined);
    resolver.found(image, debian);
    await settle();
    const always = anImage({ imagePullPolicy: "Always" }, { generation: 2 });
    images.set(key, always);
    resolver.begin(always, undefined, undefined);
    resolver.found(always, debian);
    registry.digest = digestB ?? "";
    await clock.advance(intervalMs);
    await settle();

    assert.equal(resolver.found(always, debian)?.digest, digestB);
  });

  test("looks again when a node has a digest that it does not know, once", async (t) => {
    const image = anImage();
    const { resolver, registry, clock } = aWorld(t, image);
    resolver.begin(image, undefined, undefined);
    resolver.found(image, debian);
    await settle();
    registry.asked.length = 0;
    registry.digest = digestB ?? "";
    for (const _node of ["n1", "n2"]) resolver.recheck(image, debian, digestB ?? "");
    await clock.advance(10_000);
    await settle();

    assert.equal(resolver.found(image, debian)?.digest, digestB);
    resolver.recheck(image, debian, digestA ?? "");
    await clock.advance(30_000);
    await settle();
    assert.deepEqual(registry.asked, [`HEAD ${debian}`, `GET ${debian}`]);
  });

  test("sees that a tag is back at what it named before", async (t) => {
    const image = anImage();
    const { resolver, registry, clock } = aWorld(t, image);
    resolver.begin(image, undefined, undefined);
    resolver.found(image, debian);
    await settle();
    for (const digest of [digestB ?? "", digestA ?? ""]) {
      registry.digest = digest;
      await clock.advance(intervalMs);
      resolver.recheck(image, debian, digest);
      await clock.advance(10_000);
      await settle();
      assert.equal(resolver.found(image, debian)?.digest, digest, JSON.stringify(registry.asked));
    }
  });

  // The sizes of the first nodes' platforms stood for ever: nodes of another one pulled unchecked.
  test("reads the sizes for a platform that joins, and those alone", async (t) => {
    const image = anImage();
    const { resolver, registry, platforms, told } = aWorld(t, image);
    resolver.begin(image, undefined, undefined);
    resolver.found(image, debian);
    await settle();
    registry.asked.length = 0;
    platforms.current = new Set([...platforms.current, "linux/s390x"]);
    resolver.readNewSizes();
    await settle();

    assert.deepEqual(resolver.found(image, debian)?.sizes, [
      { platform: "linux/amd64", sizeBytes: 10 },
      { platform: "linux/arm64", sizeBytes: 11 },
      { platform: "linux/s390x", sizeBytes: 12 },
    ]);
    assert.equal(told.length, 2);
    resolver.readNewSizes();
    await settle();
    assert.deepEqual(registry.asked, [`HEAD ${debian}`, `GET ${debian}`]);
  });

  test("reads the sizes for a platform that joins while a registry is being asked", async (t) => {
    const image = anImage();
    const { resolver, registry, platforms } = aWorld(t, image);
    const { promise, resolve } = Promise.withResolvers<void>();
    registry.gate = promise;
    resolver.begin(image, undefined, undefined);
    resolver.found(image, debian);
    await settle();
    platforms.current = new Set([...platforms.current, "linux/s390x"]);
    resolver.readNewSizes();
    resolve();
    await settle();

    assert.equal(resolver.found(image, debian)?.sizes.length, 3);
  });

  // One namespace's expression held up everybody: webhooks, logins, and the lease of the leader.
  test("gives up a filter that takes too long, and serves others meanwhile", async (t) => {
    const filter = { newest: 2, include: ["(a|b)*a(a|b){40}(c|d)"] };
    const repository = { name: "debian", listSelection: "all", filter } as const;
    const image = anImage({ repositories: [repository] });
    const other = anImage({}, { name: "other", namespace: "others" });
    const { resolver, registry } = aWorld(t, image, other);
    registry.tagList = Array.from({ length: 10_000 }, (_, tag) =>
      hash("sha512", String(tag)).replace(/[0-9a-f]/g, (digit) => (digit < "8" ? "a" : "b")),
    );
    resolver.begin(image, undefined, undefined);
    resolver.listed(image, repository, undefined);
    await setImmediate(); // It has had its first turn.
    resolver.begin(other, undefined, undefined);
    await until("the other one's", () => resolver.found(other, debian) !== undefined);
    assert.deepEqual(resolver.problemsOf(key).lists, [], "others wait until it has been given up");

    await until("a problem", () => resolver.problemsOf(key).lists.length > 0);
    assert.equal(resolver.problemsOf(key).lists[0]?.reason, "FilterTooSlow");
  });

  test("tells what a registry did not, tries again, and forgets it when that helps", async (t) => {
    const image = anImage();
    const { resolver, registry, clock, told } = aWorld(t, image);
    registry.error = new RegistryError("UNREACHABLE", "connection refused");
    resolver.begin(image, undefined, undefined);
    resolver.found(image, debian);
    await settle();
    assert.deepEqual(resolver.problemsOf(key), {
      images: [{ name: debian, reason: "Unreachable", message: "connection refused" }],
      lists: [],
    });

    registry.error = undefined;
    await clock.advance(10_000);
    await settle();
    assert.deepEqual(resolver.problemsOf(key), { images: [], lists: [] });
    assert.equal(told.length, 2);
  });

  test("asks at once with a Secret that was put right", async (t) => {
    const image = anImage();
    const { resolver, registry } = aWorld(t, image);
    registry.error = new RegistryError("DENIED", "unauthorized");
    resolver.begin(image, undefined, "1");
    resolver.found(image, debian);
    await settle();
    registry.error = undefined;
    resolver.begin(image, undefined, "2");
    await settle();

    assert.equal(resolver.found(image, debian)?.digest, digestA);
  });

  test("lists tags, filters them, and lists them again after an interval", async (t) => {
    const repository = { name: "debian", listSelection: "all", filter: { newest: 2 } } as const;
    const image = anImage({ repositories: [repository] });
    const { resolver, registry, clock } = aWorld(t, image);
    registry.tagList = ["3", "2", "1"];
    resolver.begin(image, undefined, undefined);

    assert.equal(resolver.listed(image, repository, undefined), undefined);
    await settle();
    assert.deepEqual(resolver.listed(image, repository, undefined), ["3", "2"]);
    const fewer = { ...repository, filter: { newest: 1 } };
    resolver.listed(image, fewer, undefined);
    await settle();
    assert.deepEqual(resolver.listed(image, fewer, undefined), ["3"]);
    resolver.listed(image, repository, undefined);
    await settle();
    registry.tagList = ["4", "3", "2", "1"];
    await clock.advance(intervalMs);
    await settle();
    assert.deepEqual(resolver.listed(image, repository, undefined), ["4", "3"]);
  });

  test("keeps the tags of the plan until the list is there, and when it cannot be had", async (t) => {
    const repository = { name: "debian", listSelection: "all", filter: { newest: 2 } } as const;
    const image = anImage({ repositories: [repository] });
    const { resolver, registry } = aWorld(t, image);
    registry.error = new RegistryError("UNREACHABLE", "connection refused");
    const plan = { selector: [], priority: 0, images: [{ reference: debian }] };
    resolver.begin(image, plan, undefined);
    resolver.listed(image, repository, plan);
    await settle();

    assert.deepEqual(resolver.listed(image, repository, plan), ["bookworm"]);
    assert.equal(resolver.problemsOf(key).lists[0]?.reason, "Unreachable");
  });

  test("lets no registry and no namespace hold all of its requests", async (t) => {
    const slow = anImage({}, { name: "slow", namespace: "hostile" });
    const good = anImage();
    const { resolver, registry, clock } = aWorld(t, slow, good);
    const { promise, resolve } = Promise.withResolvers<void>();
    registry.gate = promise;
    resolver.begin(slow, undefined, undefined);
    for (let tag = 0; tag < 50; tag++) resolver.found(slow, `slow.io/x:${tag}`);
    await settle();
    registry.gate = Promise.resolve();
    resolver.begin(good, undefined, undefined);
    resolver.found(good, debian);
    await settle();

    assert.equal(resolver.found(good, debian)?.digest, digestA);
    assert.equal(registry.asked.filter((asked) => asked.includes("slow.io")).length, 4);
    resolve();
    await clock.advance(60_000);
  });

  test("forgets what an Image no longer asks for", async (t) => {
    const image = anImage();
    const { resolver, registry } = aWorld(t, image);
    registry.error = new RegistryError("NOT_FOUND", "manifest unknown");
    resolver.begin(image, undefined, undefined);
    resolver.found(image, debian);
    await settle();
    resolver.keepOnly(image, new Set());

    assert.deepEqual(resolver.problemsOf(key), { images: [], lists: [] });
  });
});
