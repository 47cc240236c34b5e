import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import { describe, test } from "node:test";

import { KubeClient } from "#kube/client.ts";
import { leases } from "#kube/resource.ts";
import { silentLog } from "#telemetry/log.ts";
import { FakeApiServer, type SeenRequest } from "#test/fake-api-server.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { Membership } from "./membership.ts";

type Scope = { signal: AbortSignal };

const namespace = "coral-system";
const labels = { "app.kubernetes.io/component": "mirror" };

interface Worker {
  readonly membership: Membership;
  readonly identity: string;
  /** Each set of members that it told of. */
  readonly told: string[][];
  readonly client: KubeClient;
  /** Ends it as if it had crashed. */
  kill(): Promise<void>;
  stop(): Promise<void>;
}

/** Workers at one API server, with one clock. */
class Cluster implements AsyncDisposable {
  readonly server: FakeApiServer;
  readonly clock = new ManualClock();
  readonly #signal: AbortSignal;
  readonly #workers: Worker[] = [];

  private constructor(server: FakeApiServer, signal: AbortSignal) {
    this.server = server;
    this.#signal = signal;
  }

  static async start({ signal }: Scope): Promise<Cluster> {
    return new Cluster(await FakeApiServer.start(), signal);
  }

  /** Starts a worker in a pod. */
  start(identity: string): Worker {
    const { server, clock } = this;
    const client = new KubeClient({ config: server.config, log: silentLog, userAgent: "test" });
    let isDead = false;
    const membership = new Membership({
      client: {
        get: client.get.bind(client),
        create: client.create.bind(client),
        replace: client.replace.bind(client),
        listRaw: client.listRaw.bind(client),
        watch: client.watch.bind(client),
        watchError: client.watchError.bind(client),
        delete: async (...args) => !isDead && client.delete(...args),
      },
      clock,
      random: () => 0.5,
      log: silentLog,
      namespace,
      identity,
      leaseDurationMs: 15_000,
    });
    const told: string[][] = [];
    membership.onChange(() => told.push([...membership.members].toSorted()));
    const stop = new AbortController();
    const running = membership.run(stop.signal);
    const worker = {
      membership,
      identity,
      told,
      client,
      async stop() {
        stop.abort(new Error("stop"));
        await running;
      },
      async kill() {
        isDead = true;
        await worker.stop();
      },
    };
    this.#workers.push(worker);
    return worker;
  }

  /** Waits, without letting time pass, until something is so. */
  async until(isSo: () => boolean): Promise<void> {
    while (!isSo()) {
      this.#signal.throwIfAborted();
      await setImmediate();
    }
  }

  /** Waits until a worker knows these. */
  async knows({ membership }: Worker, ...identities: string[]): Promise<void> {
    const wanted = new Set(identities);
    await this.until(() => wanted.symmetricDifference(membership.members).size === 0);
  }

  /** Lets time pass in steps, with all that is renewed in between. */
  async pass(ms: number): Promise<void> {
    for (let passedMs = 0; passedMs < ms; passedMs += 1_000) {
      await this.clock.advance(Math.min(1_000, ms - passedMs));
      await this.#settle();
    }
  }

  /** Who holds which Lease. */
  get holders(): Record<string, string | undefined> {
    const all = this.server.list(leases).map((lease) => leases.parse(lease));
    return Object.fromEntries(
      all.map(({ metadata, spec }) => [metadata.name, spec?.holderIdentity]),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.ignore();
    await Promise.all(this.#workers.map((worker) => worker.kill()));
    await Promise.all(this.#workers.map(({ client }) => client[Symbol.asyncDispose]()));
    await this.server[Symbol.asyncDispose]();
  }

  /** Lets what was sent arrive, be answered and be told of. */
  async #settle(): Promise<void> {
    for (let round = 0; round < 12; round++) await setImmediate();
  }
}

const isWrite = ({ method }: SeenRequest): boolean => method === "PUT" || method === "POST";

describe("Membership", () => {
  test("counts those who renew their Leases, itself among them", async ({ signal }) => {
    await using cluster = await Cluster.start({ signal });
    const a = cluster.start("coral-mirror-a");
    assert.equal(a.membership.members.size, 0);
    await cluster.knows(a, a.identity);
    const b = cluster.start("b");
    await Promise.all([a, b].map((each) => cluster.knows(each, a.identity, b.identity)));
    await cluster.pass(60_000);

    assert.deepEqual(a.told, [[a.identity], [b.identity, a.identity].toSorted()]);
    assert.equal(a.membership.isMember, true);
    assert.equal(b.membership.isLive(a.identity), true);
    assert.deepEqual(cluster.holders, {
      "coral-mirror-a": a.identity,
      "coral-mirror-b": b.identity,
    });
  });

  test("renews its Lease every third of its duration, and writes nothing else", async ({
    signal,
  }) => {
    await using cluster = await Cluster.start({ signal });
    const a = cluster.start("a");
    await cluster.knows(a, a.identity);
    cluster.server.requests.length = 0;
    await cluster.pass(60_000);

    const writes = cluster.server.requests.filter(({ method }) => method !== "GET");
    assert.deepEqual(new Set(writes.map(({ method }) => method)), new Set(["PUT"]));
    assert.ok(Math.abs(writes.length - 12) <= 1, `${writes.length}`);
  });

  test("is left at once by who stops, and the Lease is gone", async ({ signal }) => {
    await using cluster = await Cluster.start({ signal });
    const [a, b] = [cluster.start("a"), cluster.start("b")];
    await cluster.knows(b, a.identity, b.identity);
    await a.stop();
    await cluster.knows(b, b.identity);

    assert.deepEqual(cluster.holders, { "coral-mirror-b": b.identity });
    assert.equal(a.membership.members.has(a.identity), false);
  });

  test("takes who does not renew for dead after one duration, and removes the Lease later", async ({
    signal,
  }) => {
    await using cluster = await Cluster.start({ signal });
    const [a, b] = [cluster.start("a"), cluster.start("b")];
    await cluster.knows(b, a.identity, b.identity);
    await a.kill();
    await cluster.pass(8_000);
    assert.equal(b.membership.isLive(a.identity), true);
    await cluster.pass(10_000);
    assert.equal(b.membership.isLive(a.identity), false);
    assert.deepEqual(Object.keys(cluster.holders).length, 2);
    await cluster.pass(60_000);

    assert.deepEqual(cluster.holders, { "coral-mirror-b": b.identity });
  });

  test("leaves Leases alone that are no worker's by their name", async ({ signal }) => {
    await using cluster = await Cluster.start({ signal });
    const metadata = { name: "coral-controller", namespace, labels };
    cluster.server.create(leases, { metadata, spec: { holderIdentity: "leader" } });
    const a = cluster.start("a");
    await cluster.knows(a, a.identity, "leader");
    await cluster.pass(90_000);

    assert.deepEqual([...a.membership.members], [a.identity]);
    assert.equal(cluster.holders["coral-controller"], "leader");
  });

  test("goes on with the Lease of its pod's last life, so that nobody misses it", async ({
    signal,
  }) => {
    await using cluster = await Cluster.start({ signal });
    const [a, b] = [cluster.start("a"), cluster.start("b")];
    await cluster.knows(b, "a", "b");
    await a.kill();
    await cluster.pass(3_000);
    const again = cluster.start("a");
    await cluster.knows(again, "a", "b");
    await cluster.pass(60_000);

    assert.equal(b.told.flat().length, 3, "b itself, then both");
  });

  test("stops counting itself before the others do, when it cannot renew", async ({ signal }) => {
    await using cluster = await Cluster.start({ signal });
    const a = cluster.start("a");
    await cluster.knows(a, a.identity);
    cluster.server.ignore(isWrite);
    await cluster.pass(5_000);
    assert.equal(a.membership.isMember, true);
    await cluster.pass(5_000);
    assert.equal(a.membership.isMember, false);
    assert.deepEqual(a.told.at(-1), []);

    cluster.server.ignore();
    await cluster.pass(10_000);
    assert.deepEqual(a.told.at(-1), [a.identity]);
  });

  test("takes nobody for dead whom it merely does not hear of", async ({ signal }) => {
    await using cluster = await Cluster.start({ signal });
    const [a, b] = [cluster.start("a"), cluster.start("b")];
    await cluster.knows(a, a.identity, b.identity);
    cluster.server.ignore(({ query }) => query["watch"] === "true");
    cluster.server.endWatches();
    await cluster.pass(40_000);

    assert.equal(a.membership.isMember, true, "its renewals succeed");
    assert.equal(a.membership.isLive(b.identity), true);
  });

  test("makes its Lease anew when somebody removed it", async ({ signal }) => {
    await using cluster = await Cluster.start({ signal });
    const a = cluster.start("a");
    await cluster.knows(a, a.identity);
    cluster.server.delete(leases, `${namespace}/coral-mirror-a`);
    await cluster.pass(6_000);

    assert.equal(cluster.holders["coral-mirror-a"], a.identity);
    assert.equal(a.membership.isMember, true);
  });

  test("ends in time though the API server does not answer", async ({ signal }) => {
    await using cluster = await Cluster.start({ signal });
    const a = cluster.start("a");
    await cluster.knows(a, a.identity);
    await cluster.server.stop();
    await a.stop();

    assert.equal(a.membership.members.size, 0);
  });
});
