import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import type { MirrorShard } from "#api/v1/mirror-shard.ts";
import type { MirrorStatus } from "#api/v1/mirror.ts";
import { aMirrorShard } from "#test/mirror-shards.ts";
import { RunningTotals } from "./totals.ts";

function shard(uid: string, bytesCopied: number, removed = 0): MirrorShard {
  return aMirrorShard({}, { metadata: { uid }, status: { bytesCopied, removed } });
}

function told(bytesCopied: number, removed = 0): { status: MirrorStatus } {
  const none = { repositories: 0, tags: 0, synced: 0, pending: 0, failed: 0, throttled: 0 };
  return { status: { ...none, progress: "0/0", bytesCopied, removed } };
}

describe("RunningTotals", () => {
  test("keeps what shards that are gone have done", () => {
    const totals = new RunningTotals();
    totals.sum({}, [shard("a", 5, 1), shard("b", 7, 1)]);
    assert.deepEqual(totals.sum(told(12, 2), [shard("b", 8, 1)]), { bytesCopied: 13, removed: 2 });
    assert.deepEqual(totals.sum(told(13, 2), [shard("b", 8), shard("a2", 1)]), {
      bytesCopied: 14,
      removed: 2,
    });
  });

  test("takes over from a leader before it, who knew of more shards", () => {
    const totals = new RunningTotals();
    assert.equal(totals.sum(told(12), [shard("b", 7)]).bytesCopied, 12);
    assert.equal(totals.sum(told(12), [shard("b", 9)]).bytesCopied, 14);
  });

  test("goes on when a shard begins anew", () => {
    const totals = new RunningTotals();
    totals.sum({}, [shard("a", 5)]);
    assert.equal(totals.sum(told(5), [shard("a", 0)]).bytesCopied, 5);
    assert.equal(totals.sum(told(5), [shard("a", 2)]).bytesCopied, 7);
  });

  test("never goes backwards, whatever shards say and whoever leads", () => {
    const round = fc.record({
      bytes: fc.dictionary(fc.constantFrom("a", "b", "c"), fc.nat(100), { maxKeys: 3 }),
      isNewLeader: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(round), (rounds) => {
        let totals = new RunningTotals();
        let last = 0;
        for (const { bytes, isNewLeader } of rounds) {
          if (isNewLeader) totals = new RunningTotals();
          const shards = Object.entries(bytes).map(([uid, count]) => shard(uid, count));
          const { bytesCopied } = totals.sum(told(last), shards);
          assert.ok(bytesCopied >= last);
          last = bytesCopied;
        }
      }),
    );
  });
});
