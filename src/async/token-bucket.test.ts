import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { ManualClock } from "#test/manual-clock.ts";
import { TokenBucket } from "./token-bucket.ts";

describe("TokenBucket", () => {
  test("gives its capacity at once and then one token per refill", async ({ signal }) => {
    const clock = new ManualClock();
    const bucket = new TokenBucket({ capacity: 2, refillMs: 1_000, clock });
    const start = clock.now().getTime();
    const times: number[] = [];
    const takes = [1, 2, 3, 4].map(async () => {
      await bucket.take({ signal });
      times.push(clock.now().getTime() - start);
    });
    await clock.advance(10_000);
    await Promise.all(takes);

    assert.deepEqual(times, [0, 0, 1_000, 2_000]);
  });

  test("never holds more than its capacity", async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket({ capacity: 2, refillMs: 1_000, clock });
    await clock.advance(60_000);

    assert.deepEqual([bucket.tryTake(), bucket.tryTake(), bucket.tryTake()], [true, true, false]);
  });

  test("takes of each of several buckets, or of none", () => {
    const clock = new ManualClock();
    const [empty, full] = [1, 2].map(
      (capacity) => new TokenBucket({ capacity, refillMs: 1_000, clock }),
    );
    assert.ok(empty && full);

    assert.equal(TokenBucket.tryTakeEach([full, empty]), true);
    assert.equal(TokenBucket.tryTakeEach([full, empty]), false);
    assert.equal(full.tryTake(), true, "its token went back");
    assert.equal(full.tryTake(), false);
  });

  test("gets back the token of a waiter that gave up", async ({ signal }) => {
    const clock = new ManualClock();
    const bucket = new TokenBucket({ capacity: 1, refillMs: 1_000, clock });
    await bucket.take({ signal });
    const quitter = new AbortController();
    const reason = new Error("quit");
    const quit = bucket.take({ signal: quitter.signal });
    quitter.abort(reason);
    await assert.rejects(quit, (error) => error === reason);
    await clock.advance(1_000);

    assert.equal(bucket.tryTake(), true);
  });

  test("waits no longer than a full refill when the clock is set back", async () => {
    let now = new Date("2026-01-01T12:00:00Z");
    const waits: number[] = [];
    const clock = {
      now: () => now,
      sleep: async (ms: number) => void waits.push(ms),
    };
    const bucket = new TokenBucket({ capacity: 1, refillMs: 1_000, clock });
    bucket.tryTake();
    now = new Date("2026-01-01T11:00:00Z");
    await bucket.take({ signal: new AbortController().signal });

    assert.deepEqual(waits, [1_000]);
  });
});
