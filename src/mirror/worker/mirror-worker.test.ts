import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import { describe, test } from "node:test";

import type { MirrorShard, MirrorShardSpec, MirrorShardStatus } from "#api/v1/mirror-shard.ts";
import { mirrorShards } from "#api/v1/resources.ts";
import { KubeClient } from "#kube/client.ts";
import { ConflictError } from "#kube/errors.ts";
import { Informer } from "#kube/informer.ts";
import { silentLog } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { aMirrorShard } from "#test/mirror-shards.ts";
import { mirrorMetrics } from "./metrics.ts";
import { MirrorWorker, type MirrorWorkerOptions } from "./mirror-worker.ts";
import { ownerOf } from "./rendezvous.ts";
import { slimShard } from "./shard-facts.ts";

type Scope = { signal: AbortSignal };

const hourMs = 3_600_000;
const noCounts = { tags: 0, synced: 0, pending: 0, failed: 0, throttled: 0, bytesCopied: 0 };

/** Something that changes, and who hears of it. */
class Listeners<T> {
  readonly #all = new Set<(value: T) => void>();

  readonly onChange = (listener: (value: T) => void): Disposable => {
    this.#all.add(listener);
    return { [Symbol.dispose]: () => this.#all.delete(listener) };
  };

  tell(value: T): void {
    for (const listener of this.#all) listener(value);
  }
}

class FakeMembership extends Listeners<void> {
  members: ReadonlySet<string> = new Set(["me"]);
}

/** A run under way, which goes on until the test ends it. */
class FakeRun {
  readonly name: string;
  readonly shard: MirrorShard;
  readonly signal: AbortSignal;
  readonly #ended = Promise.withResolvers<void>();

  constructor(shard: MirrorShard, signal: AbortSignal) {
    this.name = shard.metadata.name;
    this.shard = shard;
    this.signal = signal;
    signal.addEventListener("abort", () => this.#ended.reject(signal.reason), { once: true });
    this.#ended.promise.catch(() => {});
  }

  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  end(): void {
    this.#ended.resolve();
  }

  fail(error: Error): void {
    this.#ended.reject(error);
  }
}

interface SceneOptions extends MirrorWorkerOptions {
  readonly members: readonly string[];
}

/** A worker, the API server, and all that the worker asks. */
class Scene implements AsyncDisposable {
  readonly server: FakeApiServer;
  readonly clock = new ManualClock();
  /** All runs so far. */
  readonly runs: FakeRun[] = [];
  /** By shard, the Secrets that are watched for it. */
  readonly watched = new Map<string, readonly string[]>();
  readonly metrics = new Registry();
  revision: string | undefined = "1";
  readonly #membership = new FakeMembership();
  readonly #secrets = new Listeners<{ namespace: string; name: string }>();
  readonly #stop = new AbortController();
  readonly #client: KubeClient;
  readonly #scope: Scope;
  #working: Promise<unknown> = Promise.resolve();

  private constructor(server: FakeApiServer, scope: Scope) {
    this.server = server;
    this.#scope = scope;
    this.#client = new KubeClient({ config: server.config, log: silentLog, userAgent: "test" });
  }

  static async start(
    shards: readonly MirrorShard[],
    { signal, members = ["me"], ...options }: Scope & Partial<SceneOptions>,
  ): Promise<Scope & { scene: Scene }> {
    const server = await FakeApiServer.start({ resources: [mirrorShards] });
    const scene = new Scene(server, { signal });
    scene.#membership.members = new Set(members);
    for (const shard of shards) scene.add(shard);
    await scene.#start(options);
    return { scene, signal };
  }

  async #start(options: Partial<MirrorWorkerOptions>): Promise<void> {
    const common = { client: this.#client, clock: this.clock, log: silentLog };
    const shards = new Informer({ ...common, resource: mirrorShards, transform: slimShard });
    const worker = new MirrorWorker({
      ...common,
      random: () => 0,
      shards,
      identity: "me",
      runsAtOnce: 64,
      metrics: mirrorMetrics(this.metrics),
      membership: this.#membership,
      secrets: {
        use: (user, _namespace, names) => {
          if (names.length > 0) this.watched.set(user, names);
          else this.watched.delete(user);
        },
        revisionOf: () => this.revision,
        onChange: this.#secrets.onChange,
      },
      runner: {
        run: async (shard, { signal }) => {
          const run = new FakeRun(shard, signal);
          this.runs.push(run);
          await run.ended;
        },
      },
      ...options,
    });
    const { signal } = this.#stop;
    this.#working = Promise.all([shards.run(signal), worker.run(signal)]);
    await shards.synced(this.#scope);
    await this.settle();
  }

  /** Those under way, by name. */
  get names(): string[] {
    return this.runs.map(({ name }) => name);
  }

  run(index = -1): FakeRun {
    const run = this.runs.at(index);
    assert.ok(run, "there is such a run");
    return run;
  }

  add(shard: MirrorShard): void {
    const { status, ...rest } = shard;
    this.server.create(mirrorShards, rest);
    if (status) this.write(shard.metadata.name, status);
  }

  get(name: string): MirrorShard {
    return mirrorShards.parse(this.server.get(mirrorShards, `team/${name}`));
  }

  write(name: string, status: Partial<MirrorShardStatus>): void {
    this.server.merge(mirrorShards, `team/${name}`, { status: { ...noCounts, ...status } });
  }

  change(name: string, spec: Partial<MirrorShardSpec>): void {
    this.server.merge(mirrorShards, `team/${name}`, { spec: { ...spec } });
  }

  /** Ends a run as the runner does: with one status that names the next time. */
  async finish(run: FakeRun, status: Partial<MirrorShardStatus> = {}): Promise<void> {
    const { generation = 0 } = run.shard.metadata;
    const { run: observedRun } = run.shard.spec;
    this.write(run.name, {
      observedGeneration: generation,
      ...(observedRun !== undefined && { observedRun }),
      lastSyncTime: this.#time(0),
      nextSyncTime: this.#time(hourMs),
      ...status,
    });
    run.end();
    await this.settle();
  }

  #time(inMs: number): string {
    return new Date(this.clock.now().getTime() + inMs).toISOString();
  }

  become(...members: string[]): Promise<void> {
    this.#membership.members = new Set(members);
    this.#membership.tell();
    return this.settle();
  }

  changeSecret(name: string, revision: string): Promise<void> {
    this.revision = revision;
    this.#secrets.tell({ namespace: "team", name });
    return this.settle();
  }

  /** Lets what is on its way arrive, and what follows from it happen. */
  async settle(): Promise<void> {
    for (let round = 0; round < 20; round++) await setImmediate();
  }

  async pass(ms: number): Promise<void> {
    await this.clock.advance(ms);
    await this.settle();
  }

  async stop(): Promise<void> {
    this.#stop.abort(new Error("stop"));
    await this.#working;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#client[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
  }
}

/** What becomes of a write to an API server that is silent. */
async function noAnswer(_kind: unknown, _shard: unknown, { signal }: Scope): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  return promise;
}

function named(name: string, spec: Partial<MirrorShardSpec> = {}): MirrorShard {
  return aMirrorShard({ source: `source.test/org/${name}`, ...spec }, { metadata: { name } });
}

const done = (nextSyncTime: string): Partial<MirrorShardStatus> => ({
  ...noCounts,
  observedGeneration: 1,
  lastSyncTime: "2025-12-31T23:59:59Z",
  nextSyncTime,
});

describe("MirrorWorker", () => {
  test("runs a shard when it is new, and again each time that it is due", async ({ signal }) => {
    const { scene } = await Scene.start([named("a")], { signal });
    await using _ = scene;
    assert.deepEqual(scene.names, ["a"]);
    await scene.finish(scene.run());
    await scene.pass(hourMs - 1_000);
    assert.equal(scene.runs.length, 1);
    await scene.pass(1_000);
    assert.equal(scene.runs.length, 2);
    await scene.finish(scene.run());
    await scene.pass(hourMs);
    assert.equal(scene.runs.length, 3);
    assert.match(scene.metrics.render(), /coral_mirror_runs_total\{result="done"\} 2/);
  });

  test("does not run everything when it starts", async ({ signal }) => {
    const shards = ["a", "b"].map((name) => {
      return { ...named(name), status: { ...noCounts, ...done("2026-01-01T00:30:00Z") } };
    });
    const { scene } = await Scene.start([...shards, named("c")], { signal });
    await using _ = scene;
    assert.deepEqual(scene.names, ["c"]);
    await scene.pass(hourMs / 2);

    assert.deepEqual(scene.names.toSorted(), ["a", "b", "c"]);
  });

  test("runs when somebody asks for it, and once for each wish", async ({ signal }) => {
    const { scene } = await Scene.start([named("a")], { signal });
    await using _ = scene;
    await scene.finish(scene.run());
    await scene.pass(5_000);
    scene.change("a", { run: "now" });
    await scene.settle();
    assert.equal(scene.runs.length, 2);
    await scene.finish(scene.run());
    await scene.pass(60_000);

    assert.equal(scene.runs.length, 2);
  });

  test("aborts a run whose shard is to be done otherwise, and begins anew when it has ended", async ({
    signal,
  }) => {
    const { scene } = await Scene.start([named("a")], { signal });
    await using _ = scene;
    const first = scene.run();
    scene.write("a", { worker: "me", synced: 1 });
    await scene.settle();
    assert.equal(first.signal.aborted, false, "progress is no reason");
    scene.change("a", { tags: ["2"] });
    await scene.settle();

    assert.equal(first.signal.aborted, true);
    assert.deepEqual(scene.names, ["a", "a"]);
    assert.equal(scene.run().shard.metadata.generation, 2);
  });

  test("lets a run end that is asked for once more meanwhile, and begins another", async ({
    signal,
  }) => {
    const { scene } = await Scene.start([named("a")], { signal });
    await using _ = scene;
    const removals = [{ tag: "1", digest: `sha256:${"a".repeat(64)}` }];
    scene.change("a", { run: "now", removals });
    await scene.settle();
    assert.equal(scene.run(0).signal.aborted, false);
    await scene.finish(scene.run(0));
    await scene.pass(1_000);

    assert.deepEqual(scene.names, ["a", "a"]);
    assert.equal(scene.run().shard.spec.run, "now");
  });

  test("aborts a run that may remove something no more", async ({ signal }) => {
    const digest = `sha256:${"a".repeat(64)}`;
    const removals = ["1", "2"].map((tag) => ({ tag, digest }));
    const { scene } = await Scene.start([named("a", { removals })], { signal });
    await using _ = scene;
    scene.change("a", { removals: removals.slice(1) });
    await scene.settle();

    assert.equal(scene.runs[0]?.signal.aborted, true);
  });

  test("never runs a shard twice at the same time, however it changes", async ({ signal }) => {
    let under = 0;
    const ends: (() => void)[] = [];
    const run = async (): Promise<void> => {
      assert.equal(++under, 1);
      await new Promise<void>((resolve) => ends.push(resolve)); // It does not even stop when aborted.
      under--;
    };
    const { scene } = await Scene.start([named("a")], { signal, runner: { run } });
    for (const interval of ["1h", "2h"]) {
      scene.change("a", { interval });
      await scene.settle();
    }
    scene.server.delete(mirrorShards, "team/a");
    scene.add(named("a"));
    await scene.settle();
    assert.equal(ends.length, 1);
    ends[0]?.();
    await scene.pass(1_000);
    assert.equal(ends.length, 2);
    ends[1]?.();
    await scene[Symbol.asyncDispose]();
  });

  test("aborts runs of what is suspended or gone, and lets the Secrets go", async ({ signal }) => {
    const secrets = { imagePullSecrets: [{ name: "pull" }], pushSecret: { name: "push" } };
    const { scene } = await Scene.start([named("a", secrets), named("b", secrets)], { signal });
    await using _ = scene;
    assert.deepEqual(scene.watched.get("team/a"), ["pull", "push"]);
    scene.change("a", { suspend: true });
    scene.server.delete(mirrorShards, "team/b");
    await scene.settle();

    assert.deepEqual(
      scene.runs.map((run) => run.signal.aborted),
      [true, true],
    );
    assert.deepEqual(scene.watched, new Map());
    scene.change("a", { suspend: false });
    await scene.pass(1_000);
    assert.deepEqual(scene.names.toSorted(), ["a", "a", "b"]);
  });

  test("hands shards over to a worker that comes, and takes them back when it goes", async ({
    signal,
  }) => {
    const shards = Array.from({ length: 12 }, (_, index) => named(`s${index}`));
    const { scene } = await Scene.start(shards, { signal });
    await using _ = scene;
    assert.equal(scene.runs.length, 12);
    await scene.become("me", "other");
    const lost = scene.runs.filter((run) => run.signal.aborted);
    assert.ok(lost.length > 0 && lost.length < 12, `${lost.length}`);
    await scene.become("me");

    const again = scene.names.slice(12);
    assert.deepEqual(again.toSorted(), lost.map(({ name }) => name).toSorted());
  });

  test("does nothing while it is no member itself", async ({ signal }) => {
    const { scene } = await Scene.start([named("a")], { signal });
    await using _ = scene;
    await scene.become();
    assert.equal(scene.run().signal.aborted, true);
    await scene.pass(hourMs);
    assert.equal(scene.runs.length, 1);
    await scene.become("me");
    assert.equal(scene.runs.length, 2);
  });

  test("leaves a shard alone that another is at, until that one ends or dies", async ({
    signal,
  }) => {
    const members = ["me", "other"];
    const all = Array.from({ length: 12 }, (_, index) => named(`s${index}`));
    const [a, b] = all.filter(({ spec }) => ownerOf(spec.source, members) === "me");
    assert.ok(a && b);
    const shards = [a, b].map((shard) => ({ ...shard, status: { ...noCounts, worker: "other" } }));
    const { scene } = await Scene.start(shards, { signal, members });
    await using _ = scene;
    await scene.pass(hourMs);
    assert.equal(scene.runs.length, 0);
    scene.server.merge(mirrorShards, `team/${a.metadata.name}`, { status: { worker: null } });
    await scene.settle();
    assert.deepEqual(scene.names, [a.metadata.name]);
    await scene.become("me");

    assert.deepEqual(scene.names, [a.metadata.name, b.metadata.name]);
  });

  test("waits longer after each run that cannot say how it went", async ({ signal }) => {
    const { scene } = await Scene.start([named("a")], { signal });
    await using _ = scene;
    for (const waitMs of [1_000, 2_000, 4_000]) {
      const { length } = scene.runs;
      scene.run().fail(new Error("the API server is away"));
      await scene.settle();
      await scene.pass(waitMs - 1);
      assert.equal(scene.runs.length, length);
      await scene.pass(1);
      assert.equal(scene.runs.length, length + 1);
    }
    scene.run().fail(new Error("the API server is away"));
    await scene.settle();
    scene.change("a", { interval: "2h" });
    await scene.settle();
    assert.equal(scene.runs.length, 5, "another spec is worth a try");
  });

  test("looks again soon when somebody else wrote first", async ({ signal }) => {
    const { scene } = await Scene.start([named("a")], { signal });
    await using _ = scene;
    const request = { method: "PUT", path: "/" };
    scene.run().fail(new ConflictError(request, { status: 409, reason: "Conflict", message: "" }));
    await scene.settle();
    await scene.pass(1_000);

    assert.equal(scene.runs.length, 2);
    assert.match(scene.metrics.render(), /coral_mirror_runs_total\{result="conflict"\} 1/);
  });

  test("asks a registry that wants to be left alone anew until a run has told of it", async ({
    signal,
  }) => {
    const { scene } = await Scene.start([named("a")], { signal });
    await using _ = scene;
    scene.write("a", { worker: "me", throttledUntil: "2026-01-01T05:00:00Z" });
    await scene.settle();
    scene.change("a", { pushSecret: { name: "another" } });
    await scene.settle();
    assert.equal(scene.runs.length, 2, "another spec is worth a try");
    const request = { method: "PUT", path: "/" };
    const conflict = { status: 409, reason: "Conflict", message: "it did not see its own release" };
    scene.run().fail(new ConflictError(request, conflict));
    await scene.settle();
    await scene.pass(1_000);

    assert.equal(scene.runs.length, 3);
  });

  test("aborts what it has lost at once, even if the API server takes no shard back", async ({
    signal,
  }) => {
    const lost = Array.from({ length: 8 }, (_, index) => named(`s${index}`, { suspend: true }));
    const shards = lost.map((shard) => ({ ...shard, status: { ...noCounts, worker: "me" } }));
    const client = { replace: noAnswer };
    const { scene } = await Scene.start([...shards, named("a")], { signal, client });
    await using _ = scene;
    await scene.pass(6_000);
    await scene.become("other");

    assert.equal(scene.run().signal.aborted, true);
  });

  test("does not run again for what it does not yet see that it wrote", async ({ signal }) => {
    const { scene } = await Scene.start([named("a")], { signal });
    await using _ = scene;
    const [first] = scene.runs;
    first?.end();
    await scene.pass(10_000);
    scene.write("a", { worker: "me" }); // The first of its writes arrives.
    await scene.pass(10_000);
    assert.equal(scene.runs.length, 1);
    await scene.pass(10_000);
    assert.equal(scene.runs.length, 2, "the last one is lost");
  });

  test("runs what did not go well as soon as its Secrets are others", async ({ signal }) => {
    const secrets = { pushSecret: { name: "push" } };
    const { scene } = await Scene.start([named("a", secrets), named("b", secrets)], { signal });
    await using _ = scene;
    const [a, b] = scene.runs;
    assert.ok(a && b);
    const throttledUntil = "2026-01-02T00:00:00Z";
    await scene.finish(a, { failed: 1, throttledUntil });
    await scene.finish(b);
    await scene.changeSecret("push", "1");
    await scene.changeSecret("another", "1");
    await scene.pass(5_000);
    assert.equal(scene.runs.length, 2);
    await scene.changeSecret("push", "2");
    assert.deepEqual(scene.names, ["a", "b", "a"]);
    await scene.finish(scene.run(), { failed: 1, throttledUntil });
    await scene.pass(5_000);

    assert.equal(scene.runs.length, 3, "these Secrets were tried");
  });

  test("gives no slot to runs that wait for a registry, and begins no others like them", async ({
    signal,
  }) => {
    const slow = Array.from({ length: 6 }, (_, index) => named(`slow${index}`, { mirror: "slow" }));
    const quick = Array.from({ length: 6 }, (_, index) => named(`quick${index}`));
    const { scene } = await Scene.start(slow, { signal, runsAtOnce: 8 });
    await using _ = scene;
    const held = [...scene.runs];
    assert.equal(held.length, 2, "a quarter");
    for (const { name } of held) {
      scene.write(name, { worker: "me", throttled: 1, throttledUntil: "2026-01-01T00:10:00Z" });
    }
    await scene.settle();
    assert.equal(scene.runs.length, 2);
    for (const shard of quick) scene.add(shard);
    await scene.settle();
    assert.equal(scene.runs.length, 4);
    assert.match(scene.metrics.render(), /coral_mirror_runs_held 2/);
    await scene.pass(10 * 60_000);
    await Promise.all(held.map((run) => scene.finish(run)));

    assert.equal(scene.names.filter((name) => name.startsWith("slow")).length, 3);
  });

  test("takes its name out of a shard that it does not do", async ({ signal }) => {
    const { scene } = await Scene.start([named("a", { suspend: true })], { signal });
    await using _ = scene;
    scene.write("a", { worker: "me", tags: 3, pending: 3 });
    await scene.settle();
    await scene.pass(4_000);
    assert.equal(scene.get("a").status?.worker, "me");
    await scene.pass(2_000);

    assert.deepEqual(scene.get("a").status, { ...noCounts, tags: 3, pending: 3 });
  });

  test("aborts all runs when it is stopped, and waits until they have let go", async ({
    signal,
  }) => {
    let hasLetGo = false;
    const run: MirrorWorkerOptions["runner"]["run"] = async (_shard, options) => {
      await new Promise<void>((resolve) => {
        options.signal.addEventListener("abort", () => resolve(), { once: true });
      });
      for (let round = 0; round < 5; round++) await setImmediate();
      hasLetGo = true;
      throw options.signal.reason;
    };
    const { scene } = await Scene.start([named("a")], { signal, runner: { run } });
    await using _ = scene;
    await scene.stop();

    assert.equal(hasLetGo, true);
    assert.match(scene.metrics.render(), /coral_mirror_runs_total\{result="aborted"\} 1/);
  });
});
