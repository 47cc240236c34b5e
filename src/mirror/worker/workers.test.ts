import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import { describe, test } from "node:test";

import type { MirrorShard } from "#api/v1/mirror-shard.ts";
import { mirrorShards } from "#api/v1/resources.ts";
import { KubeClient } from "#kube/client.ts";
import { Informer } from "#kube/informer.ts";
import { HostSlots } from "#mirror/host-slots.ts";
import { silentLog } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { FakeRegistry } from "#test/fake-repository.ts";
import { addImage } from "#test/images.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { aMirrorShard } from "#test/mirror-shards.ts";
import { FakeKeeping } from "#test/record-keeping.ts";
import { Membership } from "./membership.ts";
import { mirrorMetrics } from "./metrics.ts";
import { MirrorWorker } from "./mirror-worker.ts";
import { ownerOf } from "./rendezvous.ts";
import { slimShard } from "./shard-facts.ts";
import { ShardRunner } from "./shard-runner.ts";
import { nextSyncTime } from "./timetable.ts";

const noSecrets = {
  use() {},
  revisionOf: () => "",
  onChange: () => ({ [Symbol.dispose]() {} }),
};

interface StartedWorker {
  /** @param onStop - called when it has been told to stop. */
  stop(onStop?: () => void): Promise<void>;
  /** Stops it without a word to the API server. */
  kill(onStop?: () => void): Promise<void>;
}

/** Whole workers at one API server, which copy from one registry to another. */
class Scene implements AsyncDisposable {
  readonly server: FakeApiServer;
  readonly clock = new ManualClock();
  readonly sources = new FakeRegistry("source.test");
  readonly targets = new FakeRegistry("target.test");
  /** By worker, the names of the shards that it began to run. */
  readonly begun = new Map<string, string[]>();
  readonly #signal: AbortSignal;
  readonly #stops: (() => Promise<void>)[] = [];

  private constructor(server: FakeApiServer, signal: AbortSignal) {
    this.server = server;
    this.#signal = signal;
  }

  static async start({ signal }: { signal: AbortSignal }): Promise<Scene> {
    return new Scene(await FakeApiServer.start({ resources: [mirrorShards] }), signal);
  }

  /** Has a repository with one image copied. */
  add(name: string): void {
    const source = this.sources.repository(`org/${name}`);
    addImage(source, [`layer of ${name}`], { tag: "1" });
    const spec = { source: `source.test/org/${name}`, target: `target.test/org/${name}` };
    this.server.create(mirrorShards, aMirrorShard(spec, { metadata: { name } }));
  }

  shard(name: string): MirrorShard {
    return mirrorShards.parse(this.server.get(mirrorShards, `team/${name}`));
  }

  isCopied(name: string): boolean {
    const [source, target] = [this.sources, this.targets].map((registry) =>
      registry.repository(`org/${name}`).tagged("1"),
    );
    return target !== undefined && target === source;
  }

  /** Starts a worker. */
  start(identity: string): StartedWorker {
    const { server, clock } = this;
    const client = new KubeClient({ config: server.config, log: silentLog, userAgent: identity });
    const common = { client, clock, log: silentLog, identity, random: () => 0.5 };
    const shards = new Informer({ ...common, resource: mirrorShards, transform: slimShard });
    const membership = new Membership({
      ...common,
      namespace: "coral-system",
      leaseDurationMs: 15_000,
    });
    const runner = new ShardRunner<FakeKeeping>({
      ...common,
      keeping: new FakeKeeping(),
      slots: new HostSlots(),
      nextSyncTime,
      repositories: {
        problemsOf: () => [],
        open: async ({ spec }) => {
          const source = this.sources.repository(spec.source.slice("source.test/".length));
          const target = this.targets.repository(spec.target.slice("target.test/".length));
          const hosts = { source: "source.test", target: "target.test", parties: [] };
          return { source, target, path: target.path, hosts, [Symbol.dispose]() {} };
        },
      },
    });
    const begun: string[] = [];
    this.begun.set(identity, begun);
    const worker = new MirrorWorker({
      ...common,
      shards,
      membership,
      secrets: noSecrets,
      runner: {
        run: async (shard, options) => {
          begun.push(shard.metadata.name);
          await runner.run(shard, options);
        },
      },
      runsAtOnce: 64,
      metrics: mirrorMetrics(new Registry()),
    });
    const [working, standing] = [new AbortController(), new AbortController()];
    const membering = membership.run(standing.signal);
    const running = Promise.all([shards.run(working.signal), worker.run(working.signal)]);
    const stop = async (onStop = (): void => {}): Promise<void> => {
      working.abort(new Error("stop"));
      onStop();
      await running;
      standing.abort(new Error("stop"));
      await membering;
      await client[Symbol.asyncDispose]();
    };
    this.#stops.push(stop);
    const kill = async (onStop?: () => void): Promise<void> => {
      await client[Symbol.asyncDispose](); // Nothing of it reaches the API server any more.
      await stop(onStop);
    };
    return { stop, kill };
  }

  /** Lets time pass until something is so. */
  async until(isSo: () => boolean): Promise<void> {
    while (!isSo()) {
      this.#signal.throwIfAborted();
      for (let round = 0; round < 10; round++) await setImmediate();
      await this.clock.advance(250);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#stops.map((stop) => stop()));
    await this.server[Symbol.asyncDispose]();
  }
}

const names = Array.from({ length: 12 }, (_, index) => `app-${index}`);

describe("mirror workers", () => {
  test("share what there is to do, and each shard is done by one of them", async ({ signal }) => {
    await using scene = await Scene.start({ signal });
    const workers = ["coral-mirror-a", "coral-mirror-b", "coral-mirror-c"];
    for (const identity of workers) scene.start(identity);
    await scene.until(() => scene.server.requests.length > 20);
    await scene.clock.advance(1_000);
    for (const name of names) scene.add(name);
    await scene.until(() => names.every((name) => scene.isCopied(name)));
    await scene.until(() => names.every((name) => scene.shard(name).status?.lastSyncTime));

    const all = [...scene.begun.values()].flat();
    assert.deepEqual(all.toSorted(), names.toSorted());
    for (const [identity, begun] of scene.begun) {
      const own = names.filter((name) => ownerOf(`source.test/org/${name}`, workers) === identity);
      assert.deepEqual(begun.toSorted(), own.toSorted());
    }
  });

  test("go on where one that died in mid-copy was, after its Lease ran out", async ({ signal }) => {
    await using scene = await Scene.start({ signal });
    const first = scene.start("coral-mirror-a");
    scene.add("app");
    const { digest } = scene.sources.repository("org/app").addBlob("layer of app");
    const release = scene.sources.repository("org/app").holdBlob(digest);
    await scene.until(() => scene.shard("app").status?.worker === "coral-mirror-a");
    scene.start("coral-mirror-b");
    await first.kill(release);
    const diedAtMs = scene.clock.now().getTime();
    assert.equal(scene.shard("app").status?.worker, "coral-mirror-a", "it could not let go");
    await scene.until(() => scene.isCopied("app"));

    const tookMs = scene.clock.now().getTime() - diedAtMs;
    assert.ok(tookMs > 8_000 && tookMs <= 20_000, `${tookMs} ms`);
    await scene.until(() => scene.shard("app").status?.lastSyncTime !== undefined);
    assert.equal(scene.shard("app").status?.worker, undefined);
  });

  test("take over at once from one that is stopped", async ({ signal }) => {
    await using scene = await Scene.start({ signal });
    const first = scene.start("coral-mirror-a");
    scene.add("app");
    const { digest } = scene.sources.repository("org/app").addBlob("layer of app");
    const release = scene.sources.repository("org/app").holdBlob(digest);
    await scene.until(() => scene.shard("app").status?.worker === "coral-mirror-a");
    scene.start("coral-mirror-b");
    await first.stop(release);
    const stoppedAtMs = scene.clock.now().getTime();
    await scene.until(() => scene.isCopied("app"));

    assert.ok(scene.clock.now().getTime() - stoppedAtMs <= 5_000);
  });
});
