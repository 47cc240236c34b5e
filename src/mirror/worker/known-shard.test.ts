import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { aMirrorShard } from "#test/mirror-shards.ts";
import { KnownShard } from "./known-shard.ts";

const shard = aMirrorShard({}, { metadata: { resourceVersion: "1" } });
const written = aMirrorShard({}, { metadata: { resourceVersion: "3" } });
const claimed = aMirrorShard({}, { metadata: { resourceVersion: "2" }, status: { worker: "me" } });

describe("KnownShard", () => {
  test("rests longer after each failure in a row, and never for more than five minutes", () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 0.999, noNaN: true })), (chances) => {
        const known = new KnownShard();
        for (const [index, chance] of chances.entries()) {
          known.fail(0, () => chance);
          const boundMs = Math.min(300_000, 1_000 * 2 ** index);
          assert.ok(known.restUntilMs > 0 && known.restUntilMs <= boundMs);
        }
        assert.equal(known.failures, chances.length);
      }),
    );
  });

  test("rests for a second after a run, and not at all when it is to be done otherwise", () => {
    const known = new KnownShard();
    known.fail(0, () => 0);
    known.begin("1");
    known.end(shard, 10_000);
    assert.deepEqual([known.failures, known.restUntilMs], [0, 11_000]);
    known.change({ isAskedAnew: true });
    known.change({ isAskedAnew: false });

    assert.equal(known.isAskedAnew, true);
    assert.ok(known.restUntilMs <= 0);
    known.begin("2");
    assert.deepEqual([known.isAskedAnew, known.secrets], [false, "2"]);
  });

  test("asks anew until a run has come to its end", () => {
    const known = new KnownShard();
    known.change({ isAskedAnew: true });
    known.begin("1");
    known.fail(0, () => 0);
    assert.equal(known.isAskedAnew, true);
    known.begin("1");
    known.interrupt();
    assert.equal(known.isAskedAnew, true);
    known.begin("1");
    known.end(shard, 0);

    assert.equal(known.isAskedAnew, false);
  });

  test("waits for what the last run wrote, but not for ever", () => {
    const known = new KnownShard();
    assert.equal(known.lagLeftMs(shard, "me", 0), 0);
    known.begin(undefined);
    known.end(shard, 1_000);

    assert.equal(known.lagLeftMs(shard, "me", 1_000), 30_000);
    assert.equal(known.lagLeftMs(claimed, "me", 11_000), 20_000);
    assert.equal(known.lagLeftMs(claimed, "me", 40_000), 0);
    assert.equal(known.lagLeftMs(written, "me", 1_000), 0);
  });

  test("leaves a claim five seconds to go by itself, each time that it is there", () => {
    const known = new KnownShard();
    assert.equal(known.claimLeftMs(1_000), 5_000);
    assert.equal(known.claimLeftMs(6_000), 0);
    known.forgetClaim();
    assert.equal(known.claimLeftMs(9_000), 5_000);
  });
});
