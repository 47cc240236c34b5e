import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import { describe, test } from "node:test";

import type { MirrorShard, MirrorShardSpec, MirrorShardStatus } from "#api/v1/mirror-shard.ts";
import { mirrorShards } from "#api/v1/resources.ts";
import { HostSlots } from "#mirror/host-slots.ts";
import { KubeClient } from "#kube/client.ts";
import { ConflictError } from "#kube/errors.ts";
import { silentLog } from "#telemetry/log.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { FakeError, FakeRegistry, type FakeRepository } from "#test/fake-repository.ts";
import { addImage } from "#test/images.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { aMirrorShard } from "#test/mirror-shards.ts";
import { FakeKeeping } from "#test/record-keeping.ts";
import { ShardRunner } from "./shard-runner.ts";

const key = "team/app-1";
const hourMs = 3_600_000;

/** Waits until something is so, as long as the test may last. */
async function until(isSo: () => boolean, signal: AbortSignal): Promise<void> {
  while (!isSo()) {
    signal.throwIfAborted();
    await setImmediate();
  }
}

/** Slots that note for which sources' hosts they are held. */
class NotedSlots extends HostSlots {
  readonly held: string[] = [];

  override hold(source: string): Disposable {
    const stack = new DisposableStack();
    stack.use(super.hold(source));
    this.held.push(source);
    stack.defer(() => this.held.splice(this.held.indexOf(source), 1));
    return stack;
  }
}

/** A shard at an API server, a source, a target, and workers. */
class Scene implements AsyncDisposable {
  readonly server: FakeApiServer;
  readonly clock = new ManualClock();
  readonly keeping = new FakeKeeping();
  readonly sources = new FakeRegistry("source.test");
  readonly targets = new FakeRegistry("target.test");
  readonly source = this.sources.repository("org/app");
  readonly target = this.targets.repository("org/app");
  readonly slots = new NotedSlots();
  openFault: Error | undefined;
  /** Of the run that was begun last. */
  onThrottled: (untilMs: number) => void = () => {};
  passSignal: AbortSignal | undefined;
  readonly #client: KubeClient;

  private constructor(server: FakeApiServer) {
    this.server = server;
    this.#client = new KubeClient({ config: server.config, log: silentLog, userAgent: "test" });
  }

  static async start(spec: Partial<MirrorShardSpec> = {}): Promise<Scene> {
    const server = await FakeApiServer.start({ resources: [mirrorShards] });
    server.create(mirrorShards, aMirrorShard(spec));
    return new Scene(server);
  }

  get shard(): MirrorShard {
    return mirrorShards.parse(this.server.get(mirrorShards, key));
  }

  get status(): MirrorShardStatus | undefined {
    return this.shard.status;
  }

  /** How often a status was written so far. */
  get writes(): number {
    return this.server.requests.filter(({ method }) => method === "PUT").length;
  }

  aWorker(identity = "me"): ShardRunner<FakeKeeping> {
    return new ShardRunner({
      client: this.#client,
      identity,
      keeping: this.keeping,
      slots: this.slots,
      clock: this.clock,
      random: () => 0.5,
      log: silentLog,
      nextSyncTime: (_spec, { now }) => new Date(now.getTime() + hourMs),
      repositories: {
        problemsOf: () => [],
        open: async ({ spec }, { onThrottled, signal }) => {
          this.onThrottled = onThrottled;
          this.passSignal = signal;
          if (this.openFault) throw this.openFault;
          const [source, target] = [
            this.sources.repository(spec.source.slice("source.test/".length)),
            this.targets.repository(spec.target.slice("target.test/".length)),
          ];
          const hosts = { source: "source.test", target: "target.test", parties: [] };
          return { source, target, path: target.path, hosts, [Symbol.dispose]() {} };
        },
      },
    });
  }

  /** Makes a run of the shard as it is now. */
  async run(signal: AbortSignal, identity = "me"): Promise<MirrorShardStatus | undefined> {
    await this.aWorker(identity).run(this.shard, { signal });
    return this.status;
  }

  /** Lets time pass until something is so. */
  async advanceUntil(isSo: () => boolean, signal: AbortSignal): Promise<void> {
    while (!isSo()) {
      signal.throwIfAborted();
      await this.clock.advance(5_000);
    }
  }

  /** Forgets what was asked so far. */
  forget(): void {
    this.server.requests.length = 0;
    this.source.log.length = 0;
    this.target.log.length = 0;
    this.keeping.reads = 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
  }
}

function addImages(source: FakeRepository, ...tags: string[]): void {
  for (const tag of tags) addImage(source, ["base", `layer of ${tag}`], { tag });
}

describe("ShardRunner", () => {
  test("claims, records new tags, copies, records what it wrote, and lets go", async ({
    signal,
  }) => {
    await using scene = await Scene.start();
    addImages(scene.source, "1", "2");
    const status = await scene.run(signal);

    assert.deepEqual(scene.target.digests(), scene.source.digests());
    assert.deepEqual([status?.tags, status?.synced, status?.worker], [2, 2, undefined]);
    assert.equal(status?.bytesCopied, scene.target.receivedBytes);
    assert.equal(status.nextSyncTime, "2026-01-01T01:00:00Z");
    assert.deepEqual(
      scene.keeping.claims.map((tags) => tags.toSorted()),
      [["1", "2"]],
    );
    assert.equal(scene.keeping.settled.length, 1);
    assert.equal(scene.writes, 2);
  });

  test("writes one status, and reads no manifest and no record, where nothing has changed", async ({
    signal,
  }) => {
    await using scene = await Scene.start();
    addImages(scene.source, "1", "2");
    await scene.run(signal);
    scene.forget();
    await scene.clock.advance(hourMs);
    const status = await scene.run(signal);

    assert.equal(scene.writes, 1);
    assert.equal(scene.server.requests.length, 1);
    assert.deepEqual(scene.source.log.toSorted(), ["find 1", "find 2", "tags "]);
    assert.deepEqual(scene.target.log.toSorted(), ["find 1", "find 2"]);
    assert.equal(scene.keeping.reads, 0);
    assert.equal(status?.lastSyncTime, "2026-01-01T01:00:00Z");
    assert.deepEqual([status?.tags, status?.synced], [2, 2]);
  });

  test("looks for new referrers of what is unchanged after six hours", async ({ signal }) => {
    await using scene = await Scene.start();
    const image = addImage(scene.source, ["layer"], { tag: "1" });
    await scene.run(signal);
    addImage(scene.source, ["signature"], { subject: image, artifactType: "application/x.sig" });
    await scene.clock.advance(5 * hourMs);
    await scene.run(signal);
    assert.notDeepEqual(scene.target.digests(), scene.source.digests());
    await scene.clock.advance(hourMs);
    const status = await scene.run(signal);

    assert.deepEqual(scene.target.digests(), scene.source.digests());
    assert.equal(status?.lastReferrersTime, "2026-01-01T06:00:00Z");
  });

  test("uploads nothing if somebody else was first", async ({ signal }) => {
    await using scene = await Scene.start();
    addImages(scene.source, "1", "2");
    const { shard } = scene;
    scene.server.merge(mirrorShards, key, { status: { ...shardStatus, worker: "other" } });
    const late = scene.aWorker().run(shard, { signal });

    await assert.rejects(late, ConflictError);
    assert.deepEqual(scene.target.digests(), []);
    assert.deepEqual(scene.keeping.claims, []);
    assert.equal(scene.status?.worker, "other");
  });

  test("lets go when it is aborted, and the next one goes on where it was", async ({ signal }) => {
    await using scene = await Scene.start();
    addImages(scene.target, "other"); // Else small blobs are sent rather than asked for.
    const before = scene.target.digests().length;
    addImage(scene.source, ["small", "large"], { tag: "1" });
    const { digest } = scene.source.addBlob("large");
    const release = scene.source.holdBlob(digest);
    const stop = new AbortController();
    const first = scene.aWorker("first").run(scene.shard, { signal: stop.signal });
    await until(() => scene.target.digests().length === before + 2, signal); // Configuration and one layer.
    assert.equal(scene.status?.worker, "first");
    const reason = new Error("shutdown");
    stop.abort(reason);
    release();
    await assert.rejects(first, (error) => error === reason);
    const left = scene.status;
    const sent = scene.target.receivedBytes;

    assert.deepEqual([left?.worker, left?.pending, left?.nextSyncTime], [undefined, 1, undefined]);
    assert.equal(left?.bytesCopied, sent);
    scene.forget();
    const status = await scene.run(signal, "second");
    assert.deepEqual([status?.synced, status?.worker], [1, undefined]);
    assert.deepEqual(scene.source.asked("blob"), [digest], "all else was there");
    assert.equal(status?.bytesCopied, scene.target.receivedBytes);
    assert.equal(scene.target.tagged("1"), scene.source.tagged("1"));
    assert.equal(scene.keeping.settled.length, 1);
  });

  test("names what is wrong, and copies the rest", async ({ signal }) => {
    await using scene = await Scene.start();
    addImages(scene.source, "bad", "good");
    const { digest } = scene.source.addBlob("layer of bad");
    scene.source.corruptBlob(digest, "LAYER of bad");
    const status = await scene.run(signal);

    assert.deepEqual([status?.tags, status?.synced, status?.failed], [2, 1, 1]);
    const [failure] = status?.failures ?? [];
    assert.deepEqual([failure?.tag, failure?.reason], ["bad", "WrongContent"]);
    assert.match(failure?.message ?? "", new RegExp(digest));
    assert.equal(scene.target.tagged("bad"), undefined);
    assert.equal(status?.nextSyncTime, "2026-01-01T00:01:00Z", "it is tried again soon");
  });

  test("never says failed of what is throttled", async ({ signal }) => {
    await using scene = await Scene.start();
    addImages(scene.source, "1", "2");
    const fault = new FakeError("THROTTLED", { retryable: true, retryAfterMs: 120_000 });
    scene.source.fail("manifest", "1", fault);
    const status = await scene.run(signal);

    assert.deepEqual([status?.synced, status?.failed, status?.throttled], [1, 0, 1]);
    assert.equal(status?.throttledUntil, "2026-01-01T00:02:00Z");
    assert.equal(status.nextSyncTime, "2026-01-01T00:02:15Z");
    assert.equal(status.failures, undefined);
  });

  test("says why it is not known which tags there are, and removes nothing then", async ({
    signal,
  }) => {
    await using scene = await Scene.start();
    addImages(scene.source, "1");
    await scene.run(signal);
    scene.forget();
    scene.source.fail("tags", "", new FakeError("DENIED", { reason: "not yours" }));
    const status = await scene.run(signal);

    assert.deepEqual(status?.failure, { reason: "Denied", message: "not yours" });
    assert.deepEqual([status?.tags, status?.synced, status?.failed], [1, 1, 1]);
    assert.equal(scene.keeping.reads, 0);
    assert.equal(scene.writes, 1);
  });

  test("says why nothing could be begun", async ({ signal }) => {
    await using scene = await Scene.start();
    scene.openFault = new FakeError("SECRET_INVALID", { reason: 'Secret "ca" has no ca.crt' });
    const status = await scene.run(signal);

    assert.deepEqual(status?.failure, {
      reason: "SecretInvalid",
      message: 'Secret "ca" has no ca.crt',
    });
    assert.equal(status?.observedGeneration, 1);
  });

  test("tells how far it is every five seconds, while something comes", async ({ signal }) => {
    await using scene = await Scene.start();
    addImages(scene.source, "1", "2");
    const { digest } = scene.source.addBlob("layer of 2");
    const release = scene.source.holdBlob(digest);
    const running = scene.aWorker().run(scene.shard, { signal });
    await until(() => scene.target.tagged("1") !== undefined, signal);
    assert.equal(scene.writes, 1, "the claim");
    await scene.clock.advance(4_999);
    assert.equal(scene.writes, 1);
    await scene.clock.advance(1);
    await until(() => scene.status?.synced === 1, signal);
    assert.deepEqual([scene.status?.pending, scene.status?.worker], [1, "me"]);
    await scene.clock.advance(60_000);
    assert.equal(scene.writes, 2, "nothing came meanwhile");
    release();
    await running;

    assert.equal(scene.writes, 3);
  });

  test("says that it waits for a registry, also where nothing was copied yet", async ({
    signal,
  }) => {
    await using scene = await Scene.start();
    addImages(scene.source, "1");
    const { digest } = scene.source.addBlob("base");
    const release = scene.source.holdBlob(digest);
    const running = scene.aWorker().run(scene.shard, { signal });
    await until(() => scene.source.asked("blob").length > 0, signal);
    scene.onThrottled(scene.clock.now().getTime() + 60_000);
    await scene.clock.advance(5_000);
    await until(() => scene.status?.throttled === 1, signal);
    assert.equal(scene.status?.throttledUntil, "2026-01-01T00:01:00Z");
    assert.deepEqual([scene.status?.pending, scene.status?.failed], [0, 0]);
    assert.deepEqual(scene.slots.held, ["source.test"], "its tags take no room from others");
    await scene.advanceUntil(() => scene.status?.pending === 1, signal);
    assert.deepEqual(scene.slots.held, []);
    release();
    await running;

    assert.deepEqual([scene.status?.synced, scene.status?.throttledUntil], [1, undefined]);
  });

  test("stops, and lets go, when the spec changes under it", async ({ signal }) => {
    await using scene = await Scene.start();
    addImages(scene.source, "1", "2");
    const { digest } = scene.source.addBlob("layer of 2");
    const release = scene.source.holdBlob(digest);
    const running = scene.aWorker().run(scene.shard, { signal });
    await until(() => scene.target.tagged("1") !== undefined, signal);
    scene.server.merge(mirrorShards, key, { spec: { tags: ["1"], listSelection: "listed" } });
    const stopped = assert.rejects(running, ConflictError);
    await scene.clock.advance(5_000);
    await until(() => scene.passSignal?.aborted === true, signal);
    release();
    await stopped;

    assert.equal(scene.status?.worker, undefined);
    assert.equal(scene.target.tagged("2"), undefined);
  });

  test("removes what is approved at the end of a run, and asks for nothing more then", async ({
    signal,
  }) => {
    const digest = `sha256:${"0".repeat(64)}`;
    await using scene = await Scene.start({ removals: [{ tag: "old", digest }] });
    addImages(scene.source, "1");
    scene.keeping.leftovers = [{ tag: "old", digest, unselectedSince: scene.clock.now() }];
    const told = await scene.run(signal);
    assert.deepEqual([told?.removable, told?.removals?.[0]?.tag], [1, "old"]);
    assert.deepEqual(scene.keeping.removed, [], "it was not told of before");
    const done = await scene.run(signal);
    scene.forget();
    scene.keeping.leftovers = [];
    await scene.run(signal);

    assert.deepEqual(scene.keeping.removed, ["old"]);
    assert.deepEqual([done?.removable, done?.removed], [0, 1]);
    assert.equal(scene.keeping.reads, 0);
  });

  test("copies nothing of a repository that its Mirror has no more, and tells what may be removed", async ({
    signal,
  }) => {
    const digest = `sha256:${"0".repeat(64)}`;
    await using scene = await Scene.start({ retired: true });
    addImages(scene.source, "1");
    scene.keeping.leftovers = [{ tag: "1", digest, unselectedSince: scene.clock.now() }];
    const told = await scene.run(signal);

    assert.deepEqual([told?.tags, told?.removable, told?.failed], [0, 1, 0]);
    assert.deepEqual(scene.source.log, []);
  });

  test("takes blobs over from another repository of the same Mirror", async ({ signal }) => {
    await using scene = await Scene.start();
    const other = scene.sources.repository("org/other");
    addImage(scene.source, ["base", "one"], { tag: "1" });
    addImage(other, ["base", "two"], { tag: "1" });
    const [base, two] = ["base", "two"].map((layer) => other.addBlob(layer).digest);
    assert.ok(base !== undefined && two !== undefined);
    scene.server.create(
      mirrorShards,
      aMirrorShard(
        { source: other.name, target: "target.test/org/other" },
        { metadata: { name: "app-2" } },
      ),
    );
    const second = mirrorShards.parse(scene.server.get(mirrorShards, "team/app-2"));
    const target = scene.targets.repository("org/other");
    const release = scene.source.holdBlob(base);
    const worker = scene.aWorker();
    const first = worker.run(scene.shard, { signal });
    await until(() => scene.source.asked("blob").includes(base), signal);
    const running = [first, worker.run(second, { signal })];
    await until(() => target.digests().includes(two), signal);
    release();
    await Promise.all(running);

    assert.deepEqual(target.asked("mountBlob"), [base]);
    assert.deepEqual(target.digests(), other.digests());
  });
});

const shardStatus = { tags: 0, synced: 0, pending: 0, failed: 0, throttled: 0, bytesCopied: 0 };
