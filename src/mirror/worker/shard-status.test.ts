import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";
import type { MirrorShard } from "#api/v1/mirror-shard.ts";
import type { CopyEvent, CopyOutcome } from "#mirror/copy-result.ts";
import { aMirrorShard } from "#test/mirror-shards.ts";
import { RunTally, type RunCounts } from "./run-tally.ts";
import {
  referrersDue,
  statusAfter,
  statusDuring,
  type Ending,
  type RemovalFacts,
} from "./shard-status.ts";

const now = new Date("2026-01-01T12:00:00Z");
const nowMs = now.getTime();
const inMs = (ms: number): string => new Date(nowMs + ms).toISOString().replace(".000Z", "Z");
const hourMs = 3_600_000;

function done(tag: string, outcome: CopyOutcome): CopyEvent {
  const counts = {
    bytesCopied: 0,
    blobsCopied: 0,
    blobsMounted: 0,
    blobsSkipped: 0,
    manifestsCopied: 0,
  };
  const result = { tag, ...outcome, ...counts };
  return { kind: "tagDone", source: "s", target: "t", tag, result };
}

function sent(sizeBytes: number, how: "copied" | "skipped" = "copied"): CopyEvent {
  return { kind: "blobDone", source: "s", target: "t", tag: "1", digest: "d", sizeBytes, how };
}

const unchanged = { outcome: "unchanged", digest: "d", digestDiffers: false } as const;
const throttled = { outcome: "throttled", reason: "too many", retryAfterMs: 60_000 } as const;
const failed = (code = "DENIED"): CopyOutcome => ({ outcome: "failed", code, reason: "no" });

function countsOf(tags: readonly string[] | undefined, ...events: CopyEvent[]): RunCounts {
  const tally = new RunTally();
  if (tags) tally.select(tags);
  for (const event of events) tally.note(event, nowMs);
  return tally.counts;
}

function after(
  shard: MirrorShard,
  counts: RunCounts,
  more: Partial<Ending> = {},
): ReturnType<typeof statusAfter> {
  return statusAfter(shard, {
    counts,
    failure: undefined,
    wereReferrersDue: false,
    selection: "hash",
    removal: undefined,
    regularTime: new Date(nowMs + hourMs),
    random: () => 0.5,
    secretProblems: [],
    now,
    ...more,
  });
}

describe("statusAfter()", () => {
  test("counts tags by what became of them", () => {
    const status = after(
      aMirrorShard({ run: "now" }, { status: { bytesCopied: 100, worker: "me" } }),
      countsOf(
        ["1", "2", "3"],
        sent(20),
        sent(5, "skipped"),
        done("1", { outcome: "copied", digest: "d", digestDiffers: true }),
        done("2", unchanged),
        done("3", failed("NO_PLATFORM")),
      ),
      { wereReferrersDue: true },
    );

    assert.deepEqual(status, {
      tags: 3,
      synced: 2,
      pending: 0,
      failed: 1,
      throttled: 0,
      bytesCopied: 120,
      failures: [{ tag: "3", reason: "NoPlatform", message: "no" }],
      digestsDiffer: true,
      selection: "hash",
      observedGeneration: 1,
      observedRun: "now",
      lastReferrersTime: inMs(0),
      lastSyncTime: inMs(0),
      nextSyncTime: inMs(60_000),
    });
  });

  test("tells of ten failures and counts all", () => {
    const tags = Array.from({ length: 30 }, (_, index) => `${index}`.padStart(2, "0"));
    const events = tags.toReversed().map((tag) => done(tag, failed()));
    const { failures, failed: count } = after(aMirrorShard(), countsOf(tags, ...events));

    assert.equal(count, 30);
    assert.deepEqual(
      failures?.map(({ tag }) => tag),
      tags.slice(0, 10),
    );
  });

  test("goes on when the registry allows it, a little later than all at once", () => {
    const status = after(aMirrorShard(), countsOf(["1"], done("1", throttled)));

    assert.deepEqual([status.failed, status.throttled], [0, 1]);
    assert.equal(status.throttledUntil, inMs(60_000));
    assert.equal(status.nextSyncTime, inMs(60_000 + 15_000));
  });

  test("keeps what was known where it is not known which tags there are", () => {
    const before = { tags: 9, synced: 8, failed: 1, selection: "old", lastReferrersTime: inMs(0) };
    const failure = { outcome: "failed", code: "UNREACHABLE", reason: "no answer" } as const;
    const status = after(aMirrorShard({}, { status: before }), countsOf(undefined), {
      failure,
      selection: "old",
      wereReferrersDue: true,
    });

    assert.deepEqual([status.tags, status.synced, status.failed], [9, 8, 1]);
    assert.deepEqual(status.failure, { reason: "Unreachable", message: "no answer" });
    assert.equal(status.selection, "old");
  });

  test("says until when a registry does not list its tags", () => {
    const status = after(aMirrorShard(), countsOf(undefined), { failure: throttled });

    assert.deepEqual([status.failed, status.throttled, status.pending], [0, 1, 0]);
    assert.equal(status.throttledUntil, inMs(60_000));
    assert.equal(status.nextSyncTime, inMs(75_000));
  });

  test("adds up what was removed, and tells what is left over", () => {
    const removal: RemovalFacts = {
      removable: 3,
      removals: [{ tag: "old", digest: `sha256:${"0".repeat(64)}`, dueTime: inMs(0) }],
      removed: 2,
      isUnsupported: undefined,
    };
    const shard = aMirrorShard(
      {},
      { status: { removed: 5, removable: 9, deleteUnsupported: true } },
    );
    const told = after(shard, countsOf([]), { removal });
    const silent = after(shard, countsOf([]));

    assert.deepEqual([told.removed, told.removable, told.deleteUnsupported], [7, 3, true]);
    assert.deepEqual(told.removals, removal.removals);
    assert.deepEqual([silent.removed, silent.removable], [5, 9]);
  });

  test("tries again between half a minute and ten, longer from time to time, never past the next time", () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0, max: 0.999_999, noNaN: true }), {
          minLength: 8,
          maxLength: 8,
        }),
        fc.integer({ min: 1_000, max: 2 * hourMs }),
        (chances, regularMs) => {
          let shard = aMirrorShard();
          let mostMs = 90_000;
          for (const chance of chances) {
            const status = after(shard, countsOf(["1"], done("1", failed())), {
              random: () => chance,
              regularTime: new Date(nowMs + regularMs),
            });
            const waitMs = Date.parse(status.nextSyncTime ?? "") - nowMs;
            const bound = Math.min(600_000, regularMs, mostMs);
            assert.ok(waitMs <= bound, `${waitMs} of ${bound}`);
            assert.ok(waitMs > Math.min(30_000, regularMs) - 1_000);
            mostMs = Math.max(90_000, 3 * waitMs);
            shard = aMirrorShard({}, { status });
          }
        },
      ),
    );
  });

  test("never tells more tags than there are, nor fewer", () => {
    const outcomes = fc.constantFrom<CopyOutcome>(unchanged, failed(), {
      outcome: "throttled",
      reason: "too many",
    });
    fc.assert(
      fc.property(fc.array(outcomes), fc.nat(50), fc.boolean(), (done_, more, isHeld) => {
        const tally = new RunTally();
        tally.select(Array.from({ length: done_.length + more }, (_, index) => `${index}`));
        for (const [index, outcome] of done_.entries())
          tally.note(done(`${index}`, outcome), nowMs);
        if (isHeld) tally.hold(nowMs + 1_000);
        const status = statusDuring(aMirrorShard(), {
          counts: tally.counts,
          secretProblems: [],
          worker: "me",
          now,
        });
        const { tags, synced, pending, failed: bad, throttled: waiting } = status;
        assert.equal(synced + pending + bad + waiting, tags);
      }),
    );
  });
});

describe("statusDuring()", () => {
  test("says that all that is left waits, while a registry wants to be left alone", () => {
    const tally = new RunTally();
    tally.select(["1", "2", "3"]);
    tally.note(done("1", unchanged), nowMs);
    tally.hold(nowMs + 90_000);
    const told = { counts: tally.counts, secretProblems: [], worker: "me" };
    const held = statusDuring(aMirrorShard(), { ...told, now });
    const later = statusDuring(aMirrorShard(), { ...told, now: new Date(nowMs + 90_000) });

    assert.deepEqual([held.pending, held.throttled, held.throttledUntil], [0, 2, inMs(90_000)]);
    assert.deepEqual([later.pending, later.throttled, later.throttledUntil], [2, 0, undefined]);
  });

  test("forgets what was on record, and keeps what a run does not change", () => {
    const before = { selection: "hash", removed: 1, lastSyncTime: inMs(-hourMs), observedRun: "a" };
    const status = statusDuring(aMirrorShard({ run: "b" }, { status: before }), {
      counts: countsOf(["1"]),
      secretProblems: [{ name: "push", reason: "SecretInvalid", message: "x".repeat(1_000) }],
      worker: "me",
      now,
    });

    assert.deepEqual(status, {
      removed: 1,
      lastSyncTime: inMs(-hourMs),
      observedRun: "a",
      tags: 1,
      synced: 0,
      pending: 1,
      failed: 0,
      throttled: 0,
      bytesCopied: 0,
      secretProblems: [{ name: "push", reason: "SecretInvalid", message: "x".repeat(256) }],
      worker: "me",
    });
  });
});

describe("referrersDue()", () => {
  const seen = { observedGeneration: 1, lastReferrersTime: inMs(-hourMs) };

  test("is so every six hours, for a new spec, and when a run is asked for", () => {
    const old = { ...seen, lastReferrersTime: inMs(-7 * hourMs) };
    const is = (spec: Parameters<typeof aMirrorShard>[0], status: object): unknown =>
      referrersDue(aMirrorShard(spec, { status }), now);

    assert.equal(referrersDue(aMirrorShard(), now), true);
    assert.equal(is({}, seen), false);
    assert.equal(is({}, old), true);
    assert.equal(is({}, { ...seen, lastReferrersTime: inMs(24 * hourMs) }), true);
    assert.equal(is({}, { ...seen, observedGeneration: 0 }), true);
    assert.equal(is({ run: "now" }, seen), true);
    assert.equal(is({ referrers: false }, old), false);
  });

  test("is so for tags that failed, or for all if more failed than are named", () => {
    const failures = [{ tag: "1", reason: "Denied", message: "no" }];
    const due = (count: number): unknown =>
      referrersDue(aMirrorShard({}, { status: { ...seen, failed: count, failures } }), now);

    assert.deepEqual(due(1), new Set(["1"]));
    assert.equal(due(2), true);
  });
});
