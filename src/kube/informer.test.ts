import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { FakeApiServer } from "#test/fake-api-server.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { systemClock } from "#async/clock.ts";
import { jsonLog, silentLog } from "#telemetry/log.ts";
import { KubeClient, type WatchEvent } from "./client.ts";
import { watchError } from "./errors.ts";
import { Informer, type InformerOptions } from "./informer.ts";
import type { Change } from "./object-cache.ts";
import { nodes, pods } from "./resource.ts";
import type { Node, Pod } from "./types.ts";

/** An informer of nodes, running against a fake API server. */
class Feed implements AsyncDisposable {
  readonly server: FakeApiServer;
  readonly informer: Informer<Node>;
  readonly told: string[] = [];
  readonly lines: string[] = [];
  readonly #client: KubeClient;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(server: FakeApiServer, options: Partial<InformerOptions<Node>> = {}) {
    this.server = server;
    this.#client = new KubeClient({ config: server.config, log: silentLog, userAgent: "test/1" });
    this.informer = new Informer({
      client: this.#client,
      resource: nodes,
      log: jsonLog({ level: "warn", write: (line) => this.lines.push(line) }),
      clock: systemClock,
      random: () => 0.999, // The shortest of waits.
      ...options,
    });
    this.informer.onChange(({ type, key }) => this.told.push(`${type} ${key}`));
    this.#running = this.informer.run(this.#stop.signal);
  }

  /** Waits until a change of this object was told. */
  async hears(type: string, key: string): Promise<void> {
    const isTold = Promise.withResolvers<void>();
    using _ = this.informer.onChange((change) => {
      if (change.type === type && change.key === key) isTold.resolve();
    });
    await isTold.promise;
  }

  /** What the watches asked for: where to begin. */
  get beginnings(): string[] {
    return this.server.requests.map(({ query }) =>
      query["sendInitialEvents"] ? "anew" : query["watch"] ? "resumed" : "list",
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#client[Symbol.asyncDispose]();
  }
}

const aNode = (name: string, labels: Record<string, string> = {}): Node => ({
  metadata: { name, labels },
});

const aPod = (name: string, namespace: string, nodeName: string): Pod => ({
  metadata: { name, namespace, labels: { app: name } },
  spec: { nodeName },
});

const keys = (found: Pod[]): string[] =>
  found.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);

describe("Informer", () => {
  test("tells who listens late of everything that is there", async ({ signal }) => {
    await using server = await FakeApiServer.start();
    server.create(nodes, aNode("a"));
    await using feed = new Feed(server);
    await feed.informer.synced({ signal });

    const late: Change<Node>[] = [];
    feed.informer.onChange((change) => late.push(change));
    assert.deepEqual(
      late.map(({ type, key }) => [type, key]),
      [["added", "a"]],
    );
  });

  test("stops telling who does not want to listen any more", async ({ signal }) => {
    await using server = await FakeApiServer.start();
    await using feed = new Feed(server);
    await feed.informer.synced({ signal });
    const told: string[] = [];
    feed.informer.onChange(({ key }) => told.push(key))[Symbol.dispose]();

    server.create(nodes, aNode("a"));
    await feed.hears("added", "a");
    assert.deepEqual(told, []);
  });

  test("goes on when a listener throws", async ({ signal }) => {
    await using server = await FakeApiServer.start();
    await using feed = new Feed(server);
    await feed.informer.synced({ signal });
    feed.informer.onChange(() => {
      throw new Error("a fault of the listener");
    });
    server.create(nodes, aNode("a"));
    server.create(nodes, aNode("b"));

    await feed.hears("added", "b");
    assert.equal(feed.lines.filter((line) => line.includes("a fault of the listener")).length, 2);
  });

  test("skips an object that it cannot read, says so once, and keeps what it knew", async ({
    signal,
  }) => {
    await using server = await FakeApiServer.start();
    server.create(nodes, aNode("a", { v: "1" }));
    await using feed = new Feed(server);
    await feed.informer.synced({ signal });

    server.merge(nodes, "a", { spec: { unschedulable: "perhaps" } });
    server.merge(nodes, "a", { spec: { unschedulable: "surely" } });
    server.create(nodes, { metadata: { name: "bad" }, spec: { taints: "none" } });
    server.create(nodes, aNode("b"));
    await feed.hears("added", "b");
    assert.deepEqual(feed.told, ["added a", "added b"]);
    assert.equal(feed.lines.filter((line) => line.includes("malformed")).length, 2);
    assert.ok(feed.lines[0]?.includes("spec.unschedulable"));
    assert.equal(feed.informer.get("a")?.metadata.labels?.["v"], "1");

    server.merge(nodes, "a", { spec: { unschedulable: true } });
    await feed.hears("updated", "a");
    server.delete(nodes, "bad");
    server.delete(nodes, "a");
    await feed.hears("deleted", "a");
  });

  test("does not take an object for deleted because it cannot read it any more", async ({
    signal,
  }) => {
    await using server = await FakeApiServer.start();
    server.create(nodes, aNode("a"));
    await using feed = new Feed(server);
    await feed.informer.synced({ signal });
    await server.stop();
    server.merge(nodes, "a", { spec: { unschedulable: "perhaps" } });
    server.create(nodes, aNode("b"));
    server.compact();
    await server.start();

    await feed.hears("added", "b");
    assert.ok(feed.informer.get("a"));
  });

  for (const goneIsStatus of [true, false]) {
    const how = goneIsStatus ? "a status" : "an event";
    test(`reads everything anew by watch after 410 as ${how}`, async ({ signal }) => {
      await using server = await FakeApiServer.start();
      server.goneIsStatus = goneIsStatus;
      for (const name of ["same", "changed", "deleted", "replaced"])
        server.create(nodes, aNode(name));
      await using feed = new Feed(server);
      await feed.informer.synced({ signal });
      await server.stop();
      server.merge(nodes, "changed", { metadata: { labels: { v: "2" } } });
      server.delete(nodes, "deleted");
      server.delete(nodes, "replaced");
      server.create(nodes, aNode("replaced"));
      server.compact();
      await server.start();

      await feed.hears("deleted", "deleted");
      assert.deepEqual(feed.told.slice(4), [
        "updated changed",
        "deleted replaced",
        "added replaced",
        "deleted deleted",
      ]);
      assert.deepEqual(feed.beginnings, ["anew", "resumed", "anew"]);
    });
  }

  test("takes a watch up again that ends with another error, where it was", async ({ signal }) => {
    await using server = await FakeApiServer.start();
    await using feed = new Feed(server);
    await feed.informer.synced({ signal });
    server.failWatches(500, "InternalError");
    server.create(nodes, aNode("a"));

    await feed.hears("added", "a");
    assert.deepEqual(feed.beginnings, ["anew", "resumed"]);
  });

  test("takes a watch for broken that sends no event", async ({ signal }) => {
    await using server = await FakeApiServer.start();
    await using feed = new Feed(server);
    await feed.informer.synced({ signal });
    server.sendToWatches("<html>");
    server.create(nodes, aNode("a"));

    await feed.hears("added", "a");
    assert.deepEqual(feed.beginnings, ["anew", "resumed"]);
  });

  test("lists where the server has no streaming lists", async ({ signal }) => {
    await using server = await FakeApiServer.start();
    server.hasWatchList = false;
    for (let index = 0; index < 600; index++) server.create(nodes, aNode(`node-${index}`));
    await using feed = new Feed(server);
    await feed.informer.synced({ signal });
    assert.equal(feed.informer.list().length, 600);

    server.create(nodes, aNode("later"));
    await feed.hears("added", "later");
    assert.deepEqual(feed.beginnings, ["anew", "list", "list", "resumed"]);
  });

  test("is not synced by initial events that broke off", async ({ signal }) => {
    const never = new Promise<never>(() => {});
    const rounds: WatchEvent[][] = [
      [{ type: "ADDED", object: aNode("a") }],
      [
        { type: "ADDED", object: aNode("b") },
        {
          type: "BOOKMARK",
          object: {
            metadata: {
              resourceVersion: "7",
              annotations: { "k8s.io/initial-events-end": "true" },
            },
          },
        },
      ],
    ];
    const clock = new ManualClock();
    const informer = new Informer({
      client: {
        listRaw: () => never,
        watchError: (_resource, status) => watchError({ method: "GET", path: "/" }, status),
        async *watch() {
          yield* rounds.shift() ?? (await never);
        },
      },
      resource: nodes,
      log: silentLog,
      clock,
    });
    const stop = new AbortController();
    void informer.run(stop.signal);
    await clock.advance(0);
    assert.equal(informer.hasSynced, false);
    assert.ok(informer.get("a"));

    await clock.advance(500);
    await informer.synced({ signal });
    assert.deepEqual(
      informer.list().map(({ metadata }) => metadata.name),
      ["b"],
    );
  });

  test("waits longer from failure to failure, but not much", async ({ signal }) => {
    await using server = await FakeApiServer.start();
    const clock = new ManualClock();
    const waitsMs: number[] = [];
    await using feed = new Feed(server, {
      random: () => 0,
      clock: {
        now: () => clock.now(),
        sleep: (ms, options) => {
          waitsMs.push(ms);
          if (waitsMs.length === 6) server.fail({ status: 429, retryAfterSeconds: 600 });
          return waitsMs.length < 8 ? Promise.resolve() : clock.sleep(ms, options);
        },
      },
    });
    server.fail({ status: 503, times: 6 });
    server.fail({ status: 503, times: 1, matching: () => waitsMs.length === 7 });
    while (waitsMs.length < 7) await systemClock.sleep(5, { signal });

    assert.deepEqual(waitsMs.slice(0, 7), [500, 1_000, 2_000, 4_000, 5_000, 5_000, 10_000]);
    assert.equal(feed.informer.get("a"), undefined);
  });

  test("finds objects by labels, namespace and index, also after they changed", async ({
    signal,
  }) => {
    await using server = await FakeApiServer.start();
    await using client = new KubeClient({
      config: server.config,
      log: silentLog,
      userAgent: "t/1",
    });
    server.create(pods, aPod("a", "one", "node-1"));
    server.create(pods, aPod("b", "one", "node-1"));
    server.create(pods, aPod("a", "two", "node-2"));
    const informer = new Informer({
      client,
      resource: pods,
      indexes: { node: ({ spec }) => [spec?.nodeName ?? ""] },
      transform: ({ metadata: { name, namespace = "", labels = {} }, spec }) => ({
        metadata: { name, namespace, labels },
        ...(spec && { spec }),
      }),
      log: silentLog,
      clock: systemClock,
    });
    const stop = new AbortController();
    const running = informer.run(stop.signal);
    await informer.synced({ signal });
    assert.deepEqual(keys(informer.list({ namespace: "one" })), ["one/a", "one/b"]);
    assert.deepEqual(keys(informer.list({ labels: { app: "a" } })), ["one/a", "two/a"]);
    assert.deepEqual(keys(informer.byIndex("node", "node-1")), ["one/a", "one/b"]);
    assert.throws(() => informer.byIndex("phase", "Running"), RangeError);
    assert.throws(
      () => Object.assign(informer.get("one/a")?.spec ?? {}, { nodeName: "x" }),
      TypeError,
    );

    const isMoved = Promise.withResolvers<void>();
    informer.onChange(({ type }) => type === "updated" && isMoved.resolve());
    server.merge(pods, "one/a", { spec: { nodeName: "node-2" } });
    await isMoved.promise;
    assert.deepEqual(keys(informer.byIndex("node", "node-1")), ["one/b"]);
    assert.deepEqual(keys(informer.byIndex("node", "node-2")), ["two/a", "one/a"]);
    assert.equal(informer.get({ name: "a", namespace: "one" })?.metadata.uid, undefined);
    stop.abort();
    await running;
  });

  test("rejects a wait for its sync with the signal's reason", async () => {
    await using server = await FakeApiServer.start();
    server.ignore(() => server.watching === 0);
    await using feed = new Feed(server);
    const reason = new Error("enough");
    const stop = new AbortController();
    const waiting = feed.informer.synced({ signal: stop.signal });
    stop.abort(reason);

    await assert.rejects(waiting, reason);
  });
});
