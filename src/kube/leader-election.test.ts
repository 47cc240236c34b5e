import assert from "node:assert/strict";
import { once } from "node:events";
import { setImmediate } from "node:timers/promises";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { ManualClock } from "#test/manual-clock.ts";
import { silentLog } from "#telemetry/log.ts";
import { ApiUnreachableError, ConflictError } from "./errors.ts";
import { runAsLeader, type LeaderElectionOptions } from "./leader-election.ts";
import type { Lease } from "./types.ts";

/** One lease, with optimistic locking, as the API server keeps it. */
class LeaseStore {
  lease: Lease | undefined;
  #version = 0;

  write(lease: Lease, isNew: boolean): Lease {
    const wanted = isNew ? undefined : lease.metadata.resourceVersion;
    if (this.lease?.metadata.resourceVersion !== wanted) {
      const request = { method: "PUT", path: "/lease" };
      throw new ConflictError(request, { status: 409, reason: "Conflict", message: "" });
    }
    const resourceVersion = String(++this.#version);
    this.lease = { ...lease, metadata: { ...lease.metadata, uid: "u", resourceVersion } };
    return this.lease;
  }

  hold(holderIdentity: string): void {
    const { metadata = { name: "test", namespace: "test" } } = this.lease ?? {};
    const renewTime = "2999-01-01T00:00:00.000000Z"; // Their clock is nobody's business.
    const spec = { holderIdentity, leaseDurationSeconds: 15, renewTime, leaseTransitions: 4 };
    this.write({ metadata, spec }, this.lease === undefined);
  }
}

type Fault = "none" | "refused" | "answer lost" | "silent";

/** A candidate's own way to the store, which can fail. */
class LeaseLink implements Pick<LeaderElectionOptions["client"], "get"> {
  readonly #store: LeaseStore;
  fault: Fault = "none";

  constructor(store: LeaseStore) {
    this.#store = store;
  }

  /** The link as the client that candidates use, of which one kind alone is asked for. */
  get client(): LeaderElectionOptions["client"] {
    const write =
      (isNew: boolean): LeaderElectionOptions["client"]["replace"] =>
      async (resource, object, { signal }) =>
        resource.parse(await this.#send(signal, () => this.#store.write(object, isNew)));
    return {
      get: this.get,
      create: write(true),
      replace: write(false),
    };
  }

  readonly get: LeaderElectionOptions["client"]["get"] = async (resource, _key, { signal }) => {
    const lease = await this.#send(signal, () => this.#store.lease);
    return lease && resource.parse(lease);
  };

  async #send<T>(signal: AbortSignal, act: () => T): Promise<T> {
    signal.throwIfAborted();
    const unreachable = new ApiUnreachableError({ method: "PUT", path: "/lease" }, "cut");
    if (this.fault === "refused") throw unreachable;
    if (this.fault === "silent") {
      await once(signal, "abort");
      throw signal.reason;
    }
    const result = act();
    if (this.fault === "answer lost") throw unreachable;
    return await Promise.resolve(result);
  }
}

class Election implements AsyncDisposable {
  readonly clock = new ManualClock();
  readonly store = new LeaseStore();
  readonly leading = new Set<string>();
  readonly #stop = new AbortController();
  readonly #running: Promise<void>[] = [];

  /** Lets a candidate stand, which leads until it is told to stop. */
  stand(identity: string): LeaseLink {
    const link = new LeaseLink(this.store);
    this.#running.push(this.run(identity, (signal) => this.#lead(identity, signal), link));
    return link;
  }

  run(
    identity: string,
    lead: (signal: AbortSignal) => Promise<void>,
    link = new LeaseLink(this.store),
  ): Promise<void> {
    const names = { namespace: "test", name: "test", identity };
    const { clock } = this;
    const signal = this.#stop.signal;
    return runAsLeader({ ...names, client: link.client, clock, log: silentLog, signal }, lead);
  }

  /** Moves on in small steps, so that what each brings about can happen in between. */
  async advance(ms: number): Promise<void> {
    for (let passedMs = 0; passedMs < ms; passedMs += 500) {
      await this.clock.advance(Math.min(500, ms - passedMs));
      for (let round = 0; round < 5; round++) await setImmediate();
    }
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#running);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #lead(identity: string, signal: AbortSignal): Promise<void> {
    assert.equal(this.leading.size, 0, "nobody else leads");
    this.leading.add(identity);
    if (!signal.aborted) await once(signal, "abort");
    this.leading.delete(identity);
  }
}

describe("runAsLeader()", () => {
  test("leads at once where there is no lease, and renews it", async () => {
    await using election = new Election();
    election.stand("a");
    await election.advance(0.5);
    assert.deepEqual([...election.leading], ["a"]);

    const first = election.store.lease?.spec?.renewTime;
    assert.match(first ?? "", /\.\d{6}Z$/);
    await election.advance(60_000);
    assert.notEqual(election.store.lease?.spec?.renewTime, first);
    assert.deepEqual([...election.leading], ["a"]);
  });

  test("takes over when the lease did not change for its duration, whatever time it names", async () => {
    await using election = new Election();
    election.store.hold("dead");
    election.stand("a");
    await election.advance(10_000);
    election.store.hold("dead");
    await election.advance(14_500);
    assert.equal(election.leading.size, 0);

    await election.advance(4_500);
    assert.deepEqual([...election.leading], ["a"]);
    assert.equal(election.store.lease?.spec?.leaseTransitions, 5);
  });

  test("does not take a living leader's lease because a clock jumped", async () => {
    await using election = new Election();
    election.store.hold("living");
    election.stand("a");
    await election.advance(2_000);
    await election.clock.advance(300_000);
    election.store.hold("living");
    await election.advance(10_000);

    assert.equal(election.leading.size, 0);
  });

  for (const fault of ["refused", "silent"] as const) {
    test(`stops leading in time when the API server is ${fault}, and leads again later`, async () => {
      await using election = new Election();
      const link = election.stand("a");
      await election.advance(3_000);
      link.fault = fault;
      await election.advance(8_000);
      assert.equal(election.leading.size, 1);
      await election.advance(2_000);
      assert.equal(election.leading.size, 0);

      link.fault = "none";
      await election.advance(10_000);
      assert.deepEqual([...election.leading], ["a"]);
    });
  }

  test("stops leading when another holds the lease", async () => {
    await using election = new Election();
    election.stand("a");
    await election.advance(3_000);
    election.store.hold("thief");
    await election.advance(2_500);

    assert.equal(election.leading.size, 0);
    assert.equal(election.store.lease?.spec?.holderIdentity, "thief");
  });

  test("releases the lease on the way out, so that the next need not wait", async () => {
    const election = new Election();
    election.stand("a");
    await election.advance(3_000);
    await election.stop();

    assert.equal(election.store.lease?.spec?.holderIdentity, "");
  });

  test("ends when the leader ends by itself", async () => {
    await using election = new Election();
    await election.run("a", () => Promise.resolve());
    assert.equal(election.store.lease?.spec?.holderIdentity, "");
  });

  test("throws what the leader throws, after it released the lease", async () => {
    await using election = new Election();
    const fault = new Error("cannot lead");
    await assert.rejects(
      election.run("a", () => Promise.reject(fault)),
      fault,
    );
    assert.equal(election.store.lease?.spec?.holderIdentity, "");
  });

  test("never has two leaders, and has one again when all is well", async () => {
    const fault = fc.constantFrom<Fault>("none", "refused", "answer lost", "silent");
    const step = fc.record({ candidate: fc.nat(2), fault, ms: fc.nat(12_000) });
    const property = fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
      await using election = new Election();
      const links = ["a", "b", "c"].map((identity) => election.stand(identity));
      for (const { candidate, fault, ms } of steps) {
        const link = links[candidate];
        if (link) link.fault = fault;
        await election.advance(ms);
        assert.ok(election.leading.size <= 1);
      }
      for (const link of links) link.fault = "none";
      await election.advance(40_000);
      assert.equal(election.leading.size, 1);
    });
    await fc.assert(property, { numRuns: 40 });
  });
});
