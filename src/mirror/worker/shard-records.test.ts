import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { CopyOutcome, TagResult } from "#mirror/copy-result.ts";
import { silentLog } from "#telemetry/log.ts";
import { FakeError, FakeRepository } from "#test/fake-repository.ts";
import { aMirrorShard } from "#test/mirror-shards.ts";
import { FakeKeeping } from "#test/record-keeping.ts";
import { ShardRecords } from "./shard-records.ts";

const digest = (hex: string): string => `sha256:${hex.repeat(64)}`;
const nowhere = { isThere: false, targetTags: undefined };
const now = new Date("2026-01-02T00:00:00Z");

function aRecord(keeping: FakeKeeping, signal: AbortSignal): ShardRecords<FakeKeeping> {
  const owner = { cluster: "c", namespace: "team", mirror: "app" };
  return new ShardRecords({ keeping, target: new FakeRepository(), owner, log: silentLog, signal });
}

function result(tag: string, outcome: CopyOutcome): TagResult {
  const none = { bytesCopied: 0, blobsCopied: 0, blobsMounted: 0, blobsSkipped: 0 };
  return { tag, ...outcome, ...none, manifestsCopied: 0 };
}

const copied = (tag: string, hex: string): TagResult =>
  result(tag, { outcome: "copied", digest: digest(hex), digestDiffers: false });

describe("ShardRecords", () => {
  test("records all selected tags that the target lacks in one write", async ({ signal }) => {
    const keeping = new FakeKeeping();
    const records = aRecord(keeping, signal);
    records.select(["1", "2", "old", digest("a")]);
    const at = { isThere: false, targetTags: new Set(["old"]) };
    await Promise.all(["1", "2"].map((tag) => records.claim(tag, at)));
    await records.claim("old", { ...at, isThere: true });
    await records.claim(digest("a"), at);

    assert.deepEqual(keeping.claims, [["1", "2"]]);
    assert.equal(keeping.reads, 1);
  });

  test("records that a tag moves if it is on record, and leaves others' alone", async ({
    signal,
  }) => {
    const keeping = new FakeKeeping();
    keeping.digests.set("ours", digest("a"));
    const records = aRecord(keeping, signal);
    const at = { isThere: true, targetTags: undefined };
    await Promise.all(["ours", "theirs"].map((tag) => records.claim(tag, at)));

    assert.deepEqual(keeping.claims, [["ours"]]);
    assert.equal(keeping.reads, 1);
  });

  test("records those together that come while a write is under way", async ({ signal }) => {
    const keeping = new FakeKeeping();
    const records = aRecord(keeping, signal);
    await Promise.all(["1", "2", "3", "2"].map((tag) => records.claim(tag, nowhere)));
    await records.claim("3", nowhere);

    assert.deepEqual(keeping.claims.flat().sort(), ["1", "2", "3"]);
    assert.ok(keeping.claims.length <= 2);
  });

  test("lets no tag be written while the record cannot be, and tries again for the next", async ({
    signal,
  }) => {
    const keeping = new FakeKeeping();
    const records = aRecord(keeping, signal);
    keeping.faults.push(new FakeError("UNREACHABLE", { retryable: true }));

    await assert.rejects(records.claim("1", nowhere), { code: "UNREACHABLE" });
    await records.claim("1", nowhere);
    assert.deepEqual(keeping.claims, [["1"]]);
  });

  test("does without where the registry takes none", async ({ signal }) => {
    const keeping = new FakeKeeping();
    const records = aRecord(keeping, signal);
    keeping.faults.push(new FakeError("BAD_ANSWER"));
    await records.claim("1", nowhere);
    await records.claim("2", nowhere);
    const { spec } = aMirrorShard();

    assert.equal(await records.settle([], { spec, status: undefined, now }), undefined);
    assert.deepEqual(keeping.claims, []);
    assert.equal(records.isComplete, true, "asking again would not help");
  });

  test("records what a run did, and tells when what is left over may go", async ({ signal }) => {
    const keeping = new FakeKeeping();
    const records = aRecord(keeping, signal);
    keeping.leftovers = Array.from({ length: 120 }, (_, index) => {
      const unselectedSince = new Date("2026-01-01T00:00:00Z");
      return { tag: `old-${index}`, digest: digest("f"), unselectedSince };
    });
    records.select(["1", "2", digest("a")]);
    const facts = await records.settle(
      [
        copied("1", "1"),
        result("2", { outcome: "failed", code: "DENIED", reason: "no" }),
        copied(digest("a"), "a"),
      ],
      { spec: aMirrorShard({ gracePeriod: "36h" }).spec, status: undefined, now },
    );

    assert.deepEqual(keeping.settled, [
      { copied: { 1: digest("1") }, unchanged: {}, selected: ["1", "2"], isComplete: true },
    ]);
    assert.equal(facts?.removable, 120);
    assert.equal(facts.removals.length, 100);
    assert.deepEqual(facts.removals[0], {
      tag: "old-0",
      digest: digest("f"),
      dueTime: "2026-01-02T12:00:00Z",
    });
    assert.equal(facts.isUnsupported, undefined);
    assert.deepEqual(keeping.removed, []);
  });

  test("removes what is approved and was told of with the same digest, and nothing else", async ({
    signal,
  }) => {
    const keeping = new FakeKeeping();
    const records = aRecord(keeping, signal);
    const unselectedSince = new Date("2026-01-01T00:00:00Z");
    keeping.leftovers = ["a", "b", "c"].map((tag) => {
      return { tag, digest: digest(tag), unselectedSince };
    });
    const removals = ["a", "b", "d"].map((tag) => ({ tag, digest: digest(tag) }));
    const told = [
      { tag: "a", digest: digest("a"), dueTime: "2026-01-01T00:00:00Z" },
      { tag: "b", digest: digest("0"), dueTime: "2026-01-01T00:00:00Z" },
    ];
    const { spec, status } = aMirrorShard({ removals }, { status: { removals: told } });
    const facts = await records.settle([], { spec, status, now });

    assert.deepEqual(keeping.removed, ["a"]);
    assert.deepEqual([facts?.removed, facts?.removable, facts?.isUnsupported], [1, 2, false]);
    assert.deepEqual(
      facts?.removals.map(({ tag }) => tag),
      ["b", "c"],
    );
  });

  test("says that something is left to be recorded when the target breaks off", async ({
    signal,
  }) => {
    const keeping = new FakeKeeping();
    const records = aRecord(keeping, signal);
    keeping.faults.push(new FakeError("UNREACHABLE", { retryable: true }));
    const { spec } = aMirrorShard();

    assert.equal(await records.settle([], { spec, status: undefined, now }), undefined);
    assert.equal(records.isComplete, false);
  });
});
