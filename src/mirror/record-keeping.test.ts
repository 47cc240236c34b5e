import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { approvedOf, ShardRecords } from "#mirror/worker/shard-records.ts";
import { FakeRegistry, type FakeRepository } from "#test/fake-repository.ts";
import { addImage } from "#test/images.ts";
import { aMirrorShard } from "#test/mirror-shards.ts";
import { silentLog } from "#telemetry/log.ts";
import type { TagResult } from "./copy-result.ts";
import { recordKeeping } from "./record-keeping.ts";
import type { Ownership } from "./ownership.ts";

const owner = { cluster: "c", namespace: "team", mirror: "app" };
const now = new Date("2026-01-02T00:00:00Z");

function records(target: FakeRepository, signal: AbortSignal): ShardRecords<Ownership> {
  return new ShardRecords({ keeping: recordKeeping, target, owner, log: silentLog, signal });
}

/** Copies tags, as far as records and the target can tell. */
async function copyAll(
  kept: ShardRecords<Ownership>,
  target: FakeRepository,
  tags: readonly string[],
): Promise<TagResult[]> {
  kept.select(tags);
  const targetTags = new Set<string>();
  return await Promise.all(
    tags.map(async (tag): Promise<TagResult> => {
      await kept.claim(tag, { isThere: false, targetTags });
      const { digest } = addImage(target, [tag], { tag });
      const counts = { bytesCopied: 0, blobsCopied: 0, blobsMounted: 0, blobsSkipped: 0 };
      const result = { outcome: "copied", digest, digestDiffers: false } as const;
      return { tag, ...result, ...counts, manifestsCopied: 1 };
    }),
  );
}

describe("recordKeeping", () => {
  test("records a thousand new tags of a run in two writes", async ({ signal }) => {
    const target = new FakeRegistry("target.test").repository("org/app");
    const kept = records(target, signal);
    const tags = Array.from({ length: 1_000 }, (_, index) => `v${index}`);
    const results = await copyAll(kept, target, tags);
    await kept.settle(results, { spec: aMirrorShard().spec, status: undefined, now });

    assert.equal(target.asked("putManifest").length, 2);
  });

  test("still knows a tag that a run moved before it was killed", async ({ signal }) => {
    const target = new FakeRegistry("target.test").repository("org/app");
    const { spec } = aMirrorShard({ gracePeriod: "0s" });
    const first = records(target, signal);
    const results = await copyAll(first, target, ["1"]);
    await first.settle(results, { spec, status: undefined, now });
    await records(target, signal).claim("1", { isThere: true, targetTags: undefined });
    const { digest } = addImage(target, ["moved"], { tag: "1" });

    const third = records(target, signal);
    third.select(["1"]);
    const unchanged = results.map((result): TagResult => {
      return { ...result, outcome: "unchanged", digest, digestDiffers: false };
    });
    await third.settle(unchanged, { spec, status: undefined, now });
    const told = await records(target, signal).settle([], { spec, status: undefined, now });

    assert.deepEqual(
      told?.removals.map((removal) => [removal.tag, removal.digest]),
      [["1", digest]],
    );
  });

  for (const removes of ["tags and digests", "digests"] as const) {
    test(`removes what runs before recorded, where a registry removes ${removes}`, async ({
      signal,
    }) => {
      const target = new FakeRegistry("target.test", { removes }).repository("org/app");
      addImage(target, ["by hand"], { tag: "by-hand" });
      const { spec } = aMirrorShard({ gracePeriod: "0s" });
      const first = records(target, signal);
      const results = await copyAll(first, target, ["1", "2", "3"]);
      await first.settle(results, { spec, status: undefined, now });

      const second = records(target, signal);
      second.select(["1"]);
      const told = await second.settle([], { spec, status: undefined, now });
      assert.deepEqual(
        told?.removals.map(({ tag }) => tag),
        ["2", "3"],
      );

      const removals = told?.removals ?? [];
      const approving = { ...spec, removals: removals.map(({ tag, digest }) => ({ tag, digest })) };
      const shard = aMirrorShard(approving, { status: { removals } });
      assert.equal(approvedOf(shard.spec, shard.status).length, 2);
      const third = records(target, signal);
      third.select(["1"]);
      const { status } = shard;
      const done = await third.settle([], { spec: shard.spec, status, now });

      assert.deepEqual(done, { removable: 0, removals: [], removed: 2, isUnsupported: false });
      const left = await Array.fromAsync(target.tags({ signal }));
      assert.deepEqual(
        left.filter((tag) => !tag.startsWith("coral-mirror.")),
        ["1", "by-hand"],
      );
    });
  }
});
