import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test } from "node:test";

import type { MirrorShard, MirrorShardStatus } from "#api/v1/mirror-shard.ts";
import { runAnnotation, type Mirror, type MirrorStatus } from "#api/v1/mirror.ts";
import { imagePlans, mirrors, mirrorShards } from "#api/v1/resources.ts";
import { systemClock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import { controllerCaches, mirrorCaches } from "#controller/caches.ts";
import { KubeClient } from "#kube/client.ts";
import type { EventRecord } from "#kube/events.ts";
import { pods, type Resource } from "#kube/resource.ts";
import { parseObject } from "#kube/shape.ts";
import type { KubeObject } from "#kube/types.ts";
import { silentLog } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import { FakeApiServer, type SeenRequest } from "#test/fake-api-server.ts";
import { aMirror, repositories } from "#test/mirrors.ts";
import { MirrorController } from "./mirror-controller.ts";
import { imageUserResources } from "./workload-kinds.ts";

const namespaces: Resource<KubeObject> = {
  group: "",
  version: "v1",
  plural: "namespaces",
  kind: "Namespace",
  namespaced: false,
  parse: parseObject,
};

const soon = "2026-01-02T00:00:00Z";
const digest = `sha256:${"a".repeat(64)}`;

/** A server, and a controller that leads. */
class Scene implements AsyncDisposable {
  readonly server: FakeApiServer;
  readonly events: EventRecord[] = [];
  readonly metrics = new Registry();
  readonly #stack = new AsyncDisposableStack();

  private constructor(server: FakeApiServer) {
    this.server = server;
  }

  static async start({ statusIntervalMs = 0 } = {}): Promise<Scene> {
    const server = await FakeApiServer.start({
      resources: [...imageUserResources(), mirrors, mirrorShards, imagePlans, namespaces],
    });
    server.create(namespaces, { metadata: { name: "kube-system" } });
    const scene = new Scene(server);
    scene.#lead(statusIntervalMs);
    return scene;
  }

  /** Makes a Mirror. The server gives it a time of creation of its own. */
  create(...args: Parameters<typeof aMirror>): void {
    const { metadata, spec } = aMirror(...args);
    const { name, namespace, annotations } = metadata;
    this.server.create(mirrors, {
      metadata: { name, ...(namespace && { namespace }), ...(annotations && { annotations }) },
      spec,
    });
  }

  get shards(): MirrorShard[] {
    return this.server.list(mirrorShards).map((shard) => mirrorShards.parse(shard));
  }

  mirror(key = "team/app"): Mirror | undefined {
    const mirror = this.server.get(mirrors, key);
    return mirror && mirrors.parse(mirror);
  }

  /** Does a worker's part. */
  report(source: string, status: Partial<MirrorShardStatus>): void {
    const shard = this.shards.find(({ spec }) => spec.source === source);
    assert.ok(shard);
    const { name, namespace = "", generation = 0 } = shard.metadata;
    const none = { tags: 0, synced: 0, pending: 0, failed: 0, throttled: 0, bytesCopied: 0 };
    const full = { ...none, ...shard.status, observedGeneration: generation, ...status };
    this.server.merge(mirrorShards, `${namespace}/${name}`, { status: full });
  }

  condition(type: string, key?: string): string | undefined {
    const found = this.mirror(key)?.status?.conditions?.find((each) => each.type === type);
    return found && `${found.status} ${found.reason}: ${found.message}`;
  }

  count(method: string, path: RegExp): number {
    return this.server.requests.filter((each) => each.method === method && path.test(each.path))
      .length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }

  #lead(statusIntervalMs: number): void {
    const { server, events, metrics } = this;
    this.#stack.use(server);
    const client = this.#stack.use(
      new KubeClient({ config: server.config, log: silentLog, userAgent: "test" }),
    );
    const common = { client, clock: systemClock, log: silentLog };
    const caches = mirrorCaches(common);
    const { plans } = controllerCaches(common, { namespace: "coral-system" });
    const controller = new MirrorController({
      ...common,
      ...caches,
      plans,
      recorder: { record: (event) => void events.push(event) },
      random: Math.random,
      metrics,
      statusIntervalMs,
    });
    const stop = new AbortController();
    const group = this.#stack.use(new TaskGroup(stop.signal));
    const informers = [caches.mirrors, caches.shards, plans];
    const running = Promise.all([
      ...informers.map((informer) => group.run((signal) => informer.run(signal))),
      group.run(async (signal) => {
        await Promise.all(informers.map((informer) => informer.synced({ signal })));
        await controller.lead(signal);
      }),
    ]);
    running.catch(() => {});
    this.#stack.defer(async () => {
      stop.abort(new Error("The test is over"));
      await running.catch(() => {});
    });
  }
}

async function until<T>(what: string, look: () => T | undefined | false): Promise<T> {
  const end = Date.now() + 20_000;
  for (;;) {
    const found = look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
    await sleep(5);
  }
}

/** Waits until nothing is asked of the server for a while. */
async function untilQuiet({ requests }: FakeApiServer): Promise<void> {
  for (let before = -1; before !== requests.length; await sleep(150)) before = requests.length;
}

async function untilStatus(
  scene: Scene,
  what: string,
  isIt: (status: MirrorStatus) => boolean,
): Promise<MirrorStatus> {
  return until(what, () => {
    const status = scene.mirror()?.status;
    return status && isIt(status) && status;
  });
}

function isCreationInBad({ method, path }: SeenRequest): boolean {
  return method === "POST" && path.includes("/namespaces/bad/");
}

function isChangeOfShard({ method, path }: SeenRequest): boolean {
  return method === "PATCH" && path.includes("/mirrorshards/");
}

const two = { repositories: repositories({ "a.test/x": ["1"], "a.test/y": "all" }) };

describe("MirrorController", () => {
  test("makes shards of a Mirror, and its status of theirs", async () => {
    await using scene = await Scene.start();
    scene.create(two);
    await untilStatus(scene, "the first status", () => scene.shards.length === 2);
    assert.match(scene.condition("Ready") ?? "", /^False Syncing: 0 of 0 tags are right/);
    const uid = scene.server.get(namespaces, "kube-system")?.["metadata"];
    assert.partialDeepStrictEqual(uid, { uid: scene.shards[0]?.spec.cluster });

    const times = { lastSyncTime: soon, nextSyncTime: soon };
    scene.report("a.test/x", { tags: 1, synced: 1, bytesCopied: 5, ...times });
    scene.report("a.test/y", { tags: 9, synced: 9, bytesCopied: 7, ...times });
    const status = await untilStatus(scene, "Ready", ({ synced }) => synced === 10);

    assert.equal(scene.condition("Ready"), "True AllTagsSynced: 10 of 10 tags are right");
    assert.deepEqual([status.progress, status.bytesCopied, status.repositories], ["10/10", 12, 2]);
    assert.equal(status.lastSyncTime, soon);
    await until("an event", () => scene.events.some(({ reason }) => reason === "Synced"));
    assert.match(scene.metrics.render(), /coral_mirrors\{state="ready"\} 1/);
  });

  test("writes nothing when nothing changes", async () => {
    await using scene = await Scene.start();
    scene.create(two);
    await untilStatus(scene, "the first status", () => true);
    scene.report("a.test/x", { tags: 1, synced: 1, lastSyncTime: soon });
    scene.report("a.test/y", { tags: 1, synced: 1, lastSyncTime: soon });
    await untilStatus(scene, "Ready", ({ synced }) => synced === 2);
    await untilQuiet(scene.server);
    scene.server.requests.length = 0;
    // What the status does not tell of.
    scene.report("a.test/y", { lastReferrersTime: soon, selection: "x" });
    await untilQuiet(scene.server);

    assert.deepEqual(scene.server.requests, []);
  });

  test("follows the spec, and keeps what was counted of shards that are gone", async () => {
    await using scene = await Scene.start();
    scene.create(two);
    await until("shards", () => scene.shards.length === 2);
    scene.report("a.test/x", { tags: 1, synced: 1, bytesCopied: 5 });
    scene.report("a.test/y", { tags: 1, synced: 1, bytesCopied: 7 });
    await untilStatus(scene, "the sum", ({ bytesCopied }) => bytesCopied === 12);
    const less = { repositories: repositories({ "a.test/y": ["2"] }) };
    scene.server.merge(mirrors, "team/app", { spec: less });
    await until("one shard", () => scene.shards.length === 1);
    await until("its new spec", () => scene.shards[0]?.spec.listSelection === "listed");
    scene.report("a.test/y", { bytesCopied: 8 });
    const status = await untilStatus(scene, "the sum", ({ bytesCopied }) => bytesCopied === 13);

    assert.equal(status.repositories, 1);
  });

  test("passes on that a run is asked for, without ceasing to be Ready", async () => {
    await using scene = await Scene.start();
    scene.create();
    await until("a shard", () => scene.shards.length === 1);
    scene.report("source.test/org/app", { tags: 1, synced: 1 });
    await untilStatus(scene, "Ready", ({ synced }) => synced === 1);
    scene.server.merge(mirrors, "team/app", {
      metadata: { annotations: { [runAnnotation]: "1" } },
    });
    await until("the run", () => scene.shards[0]?.spec.run === "1");
    await untilQuiet(scene.server);

    assert.match(scene.condition("Ready") ?? "", /^True/);
  });

  test("removes the shards of a Mirror that is gone, and no others", async () => {
    await using scene = await Scene.start();
    scene.create();
    scene.create({ registry: "else.test" }, { name: "other" });
    await until("shards", () => scene.shards.length === 2);
    const [shard] = scene.shards;
    assert.ok(shard);
    const owner = { apiVersion: "v1", kind: "ConfigMap", name: "else", uid: "1", controller: true };
    const stray = { name: "stray", namespace: "team", ownerReferences: [owner] };
    scene.server.create(mirrorShards, { metadata: stray, spec: shard.spec });
    scene.server.delete(mirrors, "team/app");
    await until(
      "its shard to go",
      () =>
        !scene.shards.some(
          ({ metadata: { ownerReferences } }) => ownerReferences?.[0]?.name === "app",
        ),
    );
    await untilQuiet(scene.server);

    assert.equal(scene.shards.length, 2);
  });

  test("removes shards that have lost their owner, and makes them anew if their Mirror is there", async () => {
    await using scene = await Scene.start();
    scene.create();
    const { metadata, spec } = await until("a shard", () => scene.shards[0]);
    const { name, uid } = metadata;
    // As with `kubectl delete --cascade=orphan`, and a Mirror that is made anew.
    scene.server.merge(mirrorShards, `team/${name}`, { metadata: { ownerReferences: null } });
    scene.server.create(mirrorShards, {
      metadata: { name: "left", namespace: "team" },
      spec: { ...spec, mirror: "gone" },
    });
    await until("a shard", () => {
      const [shard, ...rest] = scene.shards;
      return shard && shard.metadata.uid !== uid && rest.length === 0;
    });
    assert.equal(scene.shards[0]?.metadata.name, name);
    assert.equal(scene.condition("Stalled"), undefined);
  });

  test("takes a Mirror that is being deleted for gone, whatever finalizer holds it up", async () => {
    await using scene = await Scene.start();
    scene.create({}, { name: "a-first" });
    await until("a shard", () => scene.shards.length === 1);
    scene.create({}, { name: "b-second" });
    await until("Stalled", () => scene.condition("Stalled", "team/b-second"));
    const finalizers = ["example.com/stuck"];
    scene.server.merge(mirrors, "team/a-first", { metadata: { finalizers } });
    scene.server.delete(mirrors, "team/a-first");

    await until("its shard", () => scene.shards[0]?.spec.mirror === "b-second");
    await until("no Stalled", () => !scene.condition("Stalled", "team/b-second"));
    assert.equal(scene.shards.length, 1);
    assert.ok(scene.mirror("team/a-first"));
  });

  test("is not Ready for a spec that could not be passed on yet", async () => {
    await using scene = await Scene.start();
    scene.create();
    await until("a shard", () => scene.shards.length === 1);
    scene.report("source.test/org/app", { tags: 1, synced: 1 });
    await untilStatus(scene, "Ready", ({ synced }) => synced === 1);
    scene.server.fail({ status: 409, times: Infinity, matching: isChangeOfShard });
    scene.server.merge(mirrors, "team/app", { spec: { gracePeriod: "1h" } });
    await untilStatus(scene, "a status", ({ observedGeneration }) => observedGeneration === 2);

    assert.match(scene.condition("Ready") ?? "", /^False Syncing/);
  });

  test("makes a shard anew that somebody deletes", async () => {
    await using scene = await Scene.start();
    scene.create();
    const { name } = (await until("a shard", () => scene.shards[0])).metadata;
    scene.server.delete(mirrorShards, `team/${name}`);

    await until("the shard", () => scene.shards.length === 1);
  });

  test("tells whose a destination is, and gives it to the next one", async () => {
    await using scene = await Scene.start();
    scene.create({}, { name: "a-first" });
    await until("a shard", () => scene.shards.length === 1);
    scene.create({}, { name: "b-second" });
    const stalled = await until("Stalled", () => scene.condition("Stalled", "team/b-second"));

    assert.match(stalled, /^True DestinationCollision: .*"team\/a-first".*target\.test\/source/);
    assert.match(scene.condition("Ready", "team/b-second") ?? "", /^False Stalled/);
    assert.equal(scene.shards.length, 1);
    scene.server.delete(mirrors, "team/a-first");
    await until("its shard", () => scene.shards[0]?.spec.mirror === "b-second");
    await until("no Stalled", () => !scene.condition("Stalled", "team/b-second"));
  });

  test("lets a Mirror that cannot be written down stop no other", async () => {
    await using scene = await Scene.start();
    await untilQuiet(scene.server);
    scene.server.fail({ status: 422, times: Infinity, matching: isCreationInBad });
    scene.create(two, { namespace: "bad" });
    scene.create();
    await untilStatus(scene, "a status", () => scene.shards.length === 1);

    // Its status is told all the same.
    const stalled = await until("Stalled", () => scene.condition("Stalled", "bad/app"));
    assert.match(stalled, /^True ShardRefused: .*a\.test\/x: 422 ByTheTest/);
  });

  test("writes a status that changes all the time once in a while", async () => {
    await using scene = await Scene.start({ statusIntervalMs: 400 });
    scene.create();
    await until("a shard", () => scene.shards.length === 1);
    for (let synced = 0; synced < 40; synced++) {
      scene.report("source.test/org/app", { tags: 50, synced, pending: 50 - synced });
      await sleep(10);
    }
    await untilStatus(scene, "the last number", ({ synced }) => synced === 39);

    assert.ok(scene.count("PUT", /mirrors\/app\/status$/) <= 5);
  });

  test("approves removals that nobody is in the way of, and withdraws them", async () => {
    await using scene = await Scene.start();
    const removals = ["used", "free"].map((tag) => ({
      tag,
      digest,
      dueTime: "2026-01-01T00:00:00Z",
    }));
    const containers = [{ name: "a", image: "target.test/source.test/org/app:used" }];
    const pod = { metadata: { name: "pod", namespace: "far" }, spec: { containers } };
    scene.server.create(pods, pod);
    scene.create({
      removalPolicy: "Delete",
      repositories: repositories({ "source.test/org/app": ["1"] }),
    });
    await until("a shard", () => scene.shards.length === 1);
    assert.equal(scene.shards[0]?.spec.removals, undefined);
    scene.report("source.test/org/app", { removable: 2, removals });

    const approved = await until("approval", () => scene.shards[0]?.spec.removals);
    assert.deepEqual(approved, [{ tag: "free", digest }]);
    const status = await untilStatus(scene, "removals", ({ removable }) => removable === 2);
    assert.deepEqual(
      status.removals?.map(({ reference, keptBy }) => [reference.split(":")[1], keptBy]),
      [
        ["free", undefined],
        ["used", "Pod far/pod"],
      ],
    );

    const jobs = imageUserResources().find(({ kind }) => kind === "CronJob");
    assert.ok(jobs);
    const free = { containers: [{ name: "a", image: "source.test/org/app:free" }] };
    const jobTemplate = { spec: { template: { spec: free } } };
    const job = { metadata: { name: "job", namespace: "far" }, spec: { jobTemplate } };
    scene.server.create(jobs, job);
    await until("withdrawal", () => scene.shards[0]?.spec.removals === undefined);
    scene.server.delete(pods, "far/pod");
    scene.report("source.test/org/app", {}); // The worker has seen it.
    await until("approval", () => scene.shards[0]?.spec.removals?.[0]?.tag === "used");
  });

  test("reads no pods while no Mirror could remove anything", async () => {
    await using scene = await Scene.start();
    scene.create();
    await untilStatus(scene, "a status", () => true);
    await untilQuiet(scene.server);

    assert.equal(scene.count("GET", /\/pods$/), 0);
  });
});
