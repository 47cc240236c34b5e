import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import type { Lease } from "#kube/types.ts";
import { LiveLeases } from "./live-leases.ts";

let version = 0;

function aLease(name: string, spec: NonNullable<Lease["spec"]> = {}): Lease {
  const resourceVersion = `${++version}`;
  const metadata = { name, namespace: "coral-system", resourceVersion };
  return { metadata, spec: { holderIdentity: `${name}_1`, leaseDurationSeconds: 15, ...spec } };
}

/** Lets time pass in steps, as renewals of the own Lease do. */
function pass(leases: LiveLeases, fromMs: number, toMs: number): void {
  for (let ms = fromMs; ms < toMs; ms += 5_000) leases.tick(ms);
  leases.tick(toMs);
}

describe("LiveLeases", () => {
  test("counts who holds a Lease, for its duration since it was seen to change", () => {
    const leases = new LiveLeases(15_000);
    leases.tick(0);
    leases.see(aLease("a"), 0);
    leases.see(aLease("b", { leaseDurationSeconds: 30 }), 1_000);
    pass(leases, 0, 14_999);
    assert.deepEqual([...leases.holders], ["a_1", "b_1"]);
    assert.equal(leases.leftMs, 1);

    pass(leases, 14_999, 15_000);
    assert.deepEqual([...leases.holders], ["b_1"]);
    leases.see(aLease("a"), 15_000);
    assert.deepEqual([...leases.holders], ["a_1", "b_1"]);
  });

  test("is not impressed by a version that it knows", () => {
    const leases = new LiveLeases(15_000);
    const lease = aLease("a");
    leases.tick(0);
    leases.see(lease, 0);
    pass(leases, 0, 10_000);
    leases.see(lease, 10_000);
    pass(leases, 10_000, 15_000);

    assert.deepEqual([...leases.holders], []);
  });

  test("forgets who is gone, who gave up the Lease, and who held it before", () => {
    const leases = new LiveLeases(15_000);
    for (const name of ["a", "b", "c"]) leases.see(aLease(name), 0);
    leases.forget("a");
    leases.see(aLease("b", { holderIdentity: "" }), 0);
    leases.see(aLease("c", { holderIdentity: "c_2" }), 0);

    assert.deepEqual([...leases.holders], ["c_2"]);
  });

  test("takes nobody for dead while it is behind, or when the clock jumps", () => {
    const leases = new LiveLeases(15_000);
    leases.tick(0);
    leases.see(aLease("a"), 0);
    leases.tick(3_600_000);
    assert.deepEqual([...leases.holders], ["a_1"]);
    leases.see(aLease("a"), 3_600_000);
    leases.tick(3_605_000);
    leases.tick(0);
    leases.tick(5_000);

    assert.deepEqual([...leases.holders], ["a_1"]);
    pass(leases, 5_000, 15_000);
    assert.deepEqual([...leases.holders], []);
  });

  test("takes a duration that makes no sense for the usual one", () => {
    const leases = new LiveLeases(15_000);
    const odd = [0, -1, NaN, Infinity, 1e12];
    leases.tick(0);
    for (const [index, seconds] of odd.entries()) {
      leases.see(aLease(`${index}`, { leaseDurationSeconds: seconds }), 0);
    }
    pass(leases, 0, 14_000);
    assert.equal(leases.holders.size, odd.length);
    pass(leases, 14_000, 15_000);

    assert.equal(leases.holders.size, 0);
  });

  test("names those that nobody has renewed for four durations", () => {
    const leases = new LiveLeases(15_000);
    leases.tick(0);
    leases.see(aLease("a"), 0);
    pass(leases, 0, 55_000);
    assert.equal(leases.stale.length, 0);
    pass(leases, 55_000, 60_000);

    assert.deepEqual(
      leases.stale.map(({ metadata }) => metadata.name),
      ["a"],
    );
  });

  test("counts whoever renews in time, however often time is told to have passed", () => {
    const steps = fc.array(fc.record({ ms: fc.nat(14_999), ticks: fc.boolean() }));
    fc.assert(
      fc.property(steps, (all) => {
        const leases = new LiveLeases(15_000);
        let nowMs = 0;
        leases.see(aLease("a"), nowMs);
        for (const { ms, ticks } of all) {
          nowMs += ms;
          leases.see(aLease("a"), nowMs);
          if (ticks) leases.tick(nowMs);
          assert.deepEqual([...leases.holders], ["a_1"]);
        }
      }),
    );
  });
});
