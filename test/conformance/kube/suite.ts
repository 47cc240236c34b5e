import assert from "node:assert/strict";
import { describe, test, before, after } from "node:test";

import { systemClock } from "#async/clock.ts";
import { KubeClient } from "#kube/client.ts";
import type { ClusterConfig } from "#kube/cluster-config.ts";
import { ApiError, ConflictError } from "#kube/errors.ts";
import { EventRecorder } from "#kube/events.ts";
import { keyOf } from "#kube/key.ts";
import { runAsLeader } from "#kube/leader-election.ts";
import { events, leases, metadataOf, nodes } from "#kube/resource.ts";
import { requireObject } from "#kube/shape.ts";
import { silentLog } from "#telemetry/log.ts";
import { Scene, type Subject } from "./scene.ts";
import { until } from "./until.ts";
import { widgets, type Widget } from "./widget.ts";

/** A cluster that serves `widgets` besides the built-in kinds, and has a namespace `default`. */
export interface Cluster extends AsyncDisposable {
  readonly config: ClusterConfig;
  /** A time for watches in which a quiet one gets a bookmark. */
  readonly quietWatchMs: number;
  stop(): Promise<void>;
  /** Ends the API server as a crash does. */
  kill(): Promise<void>;
  /** Starts the API server again. It need not answer yet. */
  start(): Promise<void>;
  /** Makes the API server forget the changes so far: watches from before them get 410. */
  forget(): Promise<void>;
}

const subjects: Subject[] = [
  {
    title: "a Node by field selector",
    resource: nodes,
    key: (scenario) => ({ name: `node-${scenario}` }),
    build: (key, labels) => ({ metadata: { ...key, labels } }),
    selection: (scenario) => ({ fieldSelector: `metadata.name=node-${scenario}` }),
  },
  {
    title: "a custom resource by label selector",
    resource: widgets,
    key: (scenario) => ({ name: `widget-${scenario}`, namespace: "default" }),
    build: (key, labels) => ({ metadata: { ...key, labels } }),
    selection: (scenario) => ({ labelSelector: `scenario=${scenario}` }),
  },
];

/** What a Kubernetes API server is to Coral. Holds for the fake and for the real one. */
export function kubeConformance(title: string, startCluster: () => Promise<Cluster>): void {
  describe(title, () => {
    let cluster: Cluster;
    let client: KubeClient;

    before(async () => {
      cluster = await startCluster();
      client = new KubeClient({ config: cluster.config, log: silentLog, userAgent: "suite/1" });
    });
    after(async () => {
      await client[Symbol.asyncDispose]();
      await cluster[Symbol.asyncDispose]();
    });

    describe("KubeClient", () => {
      const namespace = "default";
      const widget = (name: string, size = 1): Widget => ({
        metadata: { name, namespace },
        spec: { size },
      });

      test("creates, reads, replaces and deletes", async ({ signal }) => {
        const made = await client.create(widgets, widget("life"), { signal });
        assert.equal(made.spec?.size, 1);

        const larger = { ...made, spec: { size: 2 } };
        const replaced = await client.replace(widgets, larger, { signal });
        assert.equal(replaced.metadata.generation, 2);
        assert.deepEqual(await client.get(widgets, keyOf(made), { signal }), replaced);

        assert.equal(await client.delete(widgets, keyOf(made), { signal }), true);
        assert.equal(await client.get(widgets, keyOf(made), { signal }), undefined);
        assert.equal(await client.delete(widgets, keyOf(made), { signal }), false);
      });

      test("refuses to create what exists and to replace what has changed", async ({ signal }) => {
        const made = await client.create(widgets, widget("conflict"), { signal });
        await client.replace(widgets, { ...made, spec: { size: 2 } }, { signal });

        const again = client.create(widgets, widget("conflict"), { signal });
        await assert.rejects(again, { name: "ConflictError", reason: "AlreadyExists" });
        const stale = client.replace(widgets, { ...made, spec: { size: 3 } }, { signal });
        await assert.rejects(stale, (error) => error instanceof ConflictError && error.retryable);
      });

      test("changes parts by merge patch and by JSON patch", async ({ signal }) => {
        const key = { name: "patched", namespace };
        await client.create(widgets, widget("patched"), { signal });
        const labels = { "stvz.io/a": "1", b: "2" };
        await client.patch(widgets, key, { type: "merge", body: { metadata: { labels } }, signal });
        const body = [
          { op: "test", path: "/metadata/labels/b", value: "2" },
          { op: "remove", path: "/metadata/labels/b" },
          { op: "add", path: "/metadata/labels/stvz.io~1c", value: "3" },
        ];
        const patched = await client.patch(widgets, key, { type: "json", body, signal });

        assert.deepEqual(patched.metadata.labels, { "stvz.io/a": "1", "stvz.io/c": "3" });
        const failing = client.patch(widgets, key, { type: "json", body, signal });
        await assert.rejects(failing, { name: "ApiError", status: 422, retryable: false });
      });

      test("applies what is not there, and then changes it", async ({ signal }) => {
        const key = { name: "applied", namespace };
        const apply = (size: number): Promise<Widget> => {
          const body = {
            apiVersion: "test.stvz.io/v1",
            kind: "Widget",
            metadata: key,
            spec: { size },
          };
          return client.patch(widgets, key, { type: "apply", body, fieldManager: "suite", signal });
        };

        assert.equal((await apply(1)).spec?.size, 1);
        assert.equal((await apply(2)).spec?.size, 2);
        assert.equal((await apply(2)).metadata.generation, 2);
      });

      test("writes status through its subresource alone", async ({ signal }) => {
        const key = { name: "status", namespace };
        const made = await client.create(widgets, widget("status"), { signal });
        const ignored = { ...made, status: { ready: true } };
        assert.equal((await client.replace(widgets, ignored, { signal })).status, undefined);

        const body = { spec: { size: 9 }, status: { ready: true } };
        const options = { type: "merge", body, subresource: "status", signal } as const;
        const { spec, status, metadata } = await client.patch(widgets, key, options);
        assert.deepEqual({ spec, status }, { spec: { size: 1 }, status: { ready: true } });
        assert.equal(metadata.generation, 1);
      });

      test("deletes only what fits the preconditions", async ({ signal }) => {
        const made = await client.create(widgets, widget("precondition"), { signal });
        const preconditions = { uid: "another" };
        const wrong = client.delete(widgets, keyOf(made), { preconditions, signal });
        await assert.rejects(wrong, ConflictError);

        const { uid = "" } = made.metadata;
        const right = { preconditions: { uid }, signal };
        assert.equal(await client.delete(widgets, keyOf(made), right), true);
      });

      test("lists by namespace and by labels", async ({ signal }) => {
        const labelled = { metadata: { name: "listed", namespace, labels: { listed: "yes" } } };
        await client.create(widgets, labelled, { signal });
        const labelSelector = "listed=yes";
        const { items } = await client.list(widgets, { namespace, labelSelector, signal });

        assert.deepEqual(items.map(keyOf), [{ name: "listed", namespace }]);
        const elsewhere = await client.list(widgets, { namespace: "kube-system", signal });
        assert.deepEqual(elsewhere.items, []);
      });

      test("gets the metadata alone where it asks for no more", async ({ signal }) => {
        const key = { name: "slim", namespace };
        const slim = metadataOf(widgets);
        const made = await client.create(slim, widget("slim"), { signal });
        assert.deepEqual((await client.get(widgets, key, { signal }))?.spec, { size: 1 });
        const merge = { type: "merge", signal } as const;
        const body = { status: { ready: true } };
        const ready = await client.patch(slim, key, { ...merge, body, subresource: "status" });
        const labels = { slim: "yes" };
        const labelled = await client.patch(slim, key, {
          ...merge,
          body: { metadata: { labels } },
        });
        const selection = { namespace, labelSelector: "slim=yes" };
        const { items } = await client.list(slim, { ...selection, signal });
        const query = { resourceVersion: "0" };
        const watch = client.watch(slim, { ...selection, query, timeoutMs: 5_000, signal });
        const { value } = await watch.next();
        await watch.return(undefined);

        const answers = [made, ready, labelled, ...items, value?.object];
        for (const answer of answers) {
          const { metadata, ...rest } = requireObject(answer, "answer");
          assert.equal(requireObject(metadata, "metadata")["name"], "slim");
          assert.equal("spec" in rest || "status" in rest, false);
        }
        assert.equal(answers.length, 5);
        assert.deepEqual((await client.get(widgets, key, { signal }))?.status, { ready: true });
      });

      test("names the server's reason for a refusal", async ({ signal }) => {
        const unnamed = client.create(widgets, { metadata: { name: "", namespace } }, { signal });
        await assert.rejects(unnamed, (error) => error instanceof ApiError && error.status === 422);
        const unknown = { ...widgets, plural: "gadgets" };
        await assert.rejects(client.list(unknown, { signal }), { status: 404, retryable: false });
      });
    });

    for (const subject of subjects) informerConformance(subject, () => cluster);

    test("one candidate leads, and the next as soon as the lease is released", async ({
      signal,
    }) => {
      const led: string[] = [];
      let leaders = 0;
      const run = (identity: string, scope: AbortSignal): Promise<void> =>
        runAsLeader(
          {
            client,
            namespace: "default",
            name: "suite",
            identity,
            clock: systemClock,
            log: silentLog,
            retryPeriodMs: 100,
            signal: scope,
          },
          async (leading) => {
            assert.equal(++leaders, 1);
            led.push(identity);
            await new Promise((stop) => leading.addEventListener("abort", stop, { once: true }));
            leaders--;
          },
        );
      using first = stopWith(signal);
      using second = stopWith(signal);
      const firstRun = run("first", first.signal);
      await until("the first leads", () => led.length === 1, { signal });
      const secondRun = run("second", second.signal);
      first.stop();
      await until("the second leads", () => led.length === 2, { signal });
      second.stop();
      await Promise.all([firstRun, secondRun]);

      assert.deepEqual(led, ["first", "second"]);
      const lease = await client.get(leases, { name: "suite", namespace: "default" }, { signal });
      assert.equal(lease?.spec?.holderIdentity ?? "", "");
      assert.equal(lease?.spec?.leaseTransitions, 1);
    });

    test("events are written, and repeats are counted", async ({ signal }) => {
      const regarding = { kind: "Widget", apiVersion: "test.stvz.io/v1", name: "noted", uid: "u" };
      let nowMs = Date.now();
      const clock = { ...systemClock, now: () => new Date(nowMs) };
      const recorder = new EventRecorder({
        client,
        controller: "stvz.io/suite",
        instance: "suite-0",
        clock,
        log: silentLog,
      });
      for (let round = 1; round <= 3; round++) {
        recorder.record({
          regarding,
          type: "Warning",
          reason: "Seen",
          action: "See",
          note: "once",
        });
        nowMs += 61_000;
      }
      await recorder[Symbol.asyncDispose]();

      const { items } = await client.list(events, { namespace: "default", signal });
      const noted = items.filter((event) => event.regarding.name === "noted");
      assert.equal(noted.length, 1);
      assert.equal(noted[0]?.series?.count, 3);
    });
  });
}

function informerConformance(subject: Subject, getCluster: () => Cluster): void {
  const { title } = subject;

  describe(`Informer of ${title}`, () => {
    test("tells what is there, and then each change in its order", async ({ signal }) => {
      await using scene = await Scene.open(getCluster().config, subject, "order", signal);
      await scene.create({ v: "1" });
      await scene.sync();
      await scene.label("2");
      await scene.label("3");
      await scene.delete();
      await scene.create({ v: "4" });

      await scene.tells(["added 1", "updated 2", "updated 3", "deleted 3", "added 4"]);
      const anew = scene.recorded.beginnings.filter((beginning) => beginning === "anew");
      assert.equal(anew.length, 1);
    });

    test("goes on where it was after the connection broke", async ({ signal }) => {
      await using scene = await Scene.open(getCluster().config, subject, "broken", signal);
      await scene.create({ v: "1" });
      await scene.sync();
      for (const v of ["2", "3", "4"]) {
        scene.link.drop();
        await scene.label(v);
        await scene.shows(v);
      }

      await scene.tells(["added 1", "updated 2", "updated 3", "updated 4"]);
      assert.deepEqual(new Set(scene.recorded.beginnings.slice(1)), new Set(["resumed"]));
      assert.equal(scene.recorded.lists, 0);
    });

    test("hears of what changed and was deleted while the watch was down", async ({ signal }) => {
      await using scene = await Scene.open(getCluster().config, subject, "down", signal);
      await scene.create({ v: "1" });
      await scene.sync();
      scene.link.cut();
      await scene.watchEnds();
      await scene.label("2");
      await scene.delete();
      await scene.create({ v: "3" });
      scene.link.restore();

      await scene.tells(["added 1", "updated 2", "deleted 2", "added 3"]);
      scene.link.cut();
      await scene.delete();
      scene.link.restore();
      await scene.tells(["added 1", "updated 2", "deleted 2", "added 3", "deleted 3"]);
      assert.equal(scene.recorded.lists, 0);
      assert.deepEqual(new Set(scene.recorded.beginnings.slice(1)), new Set(["resumed"]));
    });

    test("notices a connection that only this side has open", async ({ signal }) => {
      await using scene = await Scene.open(getCluster().config, subject, "silent", signal);
      await scene.create({ v: "1" });
      await scene.sync();
      scene.link.silence();
      await scene.label("2");
      await scene.watchEnds();
      scene.link.restore();

      await scene.tells(["added 1", "updated 2"]);
      assert.deepEqual(new Set(scene.recorded.beginnings.slice(1)), new Set(["resumed"]));
    });

    test("reads everything anew, by watch, when the server forgot where it was", async ({
      signal,
    }) => {
      await using scene = await Scene.open(getCluster().config, subject, "gone", signal);
      await scene.create({ v: "1" });
      await scene.sync();
      scene.link.cut();
      await scene.watchEnds();
      await scene.delete();
      await getCluster().forget();
      await scene.noise();
      scene.link.restore();

      await scene.tells(["added 1", "deleted 1"]);
      scene.link.cut();
      await scene.create({ v: "2" });
      await scene.noise();
      await getCluster().forget();
      scene.link.restore();
      await scene.tells(["added 1", "deleted 1", "added 2"]);
      assert.equal(scene.recorded.lists, 0);
      assert.ok(scene.recorded.beginnings.filter((beginning) => beginning === "anew").length >= 2);
    });

    test("outlives API servers that stop and that crash", async ({ signal }) => {
      await using scene = await Scene.open(getCluster().config, subject, "restart", signal);
      await scene.create({ v: "1" });
      await scene.sync();
      await getCluster().stop();
      await scene.watchEnds();
      await getCluster().start();
      await scene.label("2");
      await scene.shows("2");
      await getCluster().kill();
      await scene.watchEnds();
      await getCluster().start();
      await scene.delete();

      await scene.tells(["added 1", "updated 2", "deleted 2"]);
      assert.equal(scene.recorded.lists, 0);
    });

    test("goes on from bookmarks, and asks nothing else while nothing changes", async ({
      signal,
    }) => {
      const watchTimeoutMs = getCluster().quietWatchMs;
      await using scene = await Scene.open(
        getCluster().config,
        subject,
        "quiet",
        signal,
        watchTimeoutMs,
      );
      await scene.create({ v: "1" });
      await scene.sync();
      await scene.noise();
      const { watches } = scene.recorded;
      const ended = (): number => watches.filter(({ hasEnded }) => hasEnded).length;
      await until("three watches came to their end", () => ended() >= 3, { signal });

      for (const [index, { query }] of watches.slice(1).entries()) {
        const before = watches.slice(0, index + 1).flatMap(({ events }) => events);
        const { metadata } = requireObject(before.at(-1)?.object, "object");
        const lastVersion = requireObject(metadata, "metadata")["resourceVersion"];
        assert.equal(query["resourceVersion"], lastVersion);
      }
      const types = watches.slice(0, 3).flatMap((watch) => watch.events.map(({ type }) => type));
      assert.ok(types.filter((type) => type === "BOOKMARK").length >= 2, String(types));
      assert.deepEqual(new Set(scene.recorded.beginnings.slice(1)), new Set(["resumed"]));
      assert.deepEqual(scene.requestsOtherThanWatches(), []);
      await scene.tells(["added 1"]);
    });
  });
}

/** A signal of its own that also ends with the test. */
function stopWith(parent: AbortSignal): Disposable & { signal: AbortSignal; stop: () => void } {
  const controller = new AbortController();
  const stop = (): void => controller.abort(new Error("Stopped by the test"));
  return {
    signal: AbortSignal.any([parent, controller.signal]),
    stop,
    [Symbol.dispose]: stop,
  };
}
