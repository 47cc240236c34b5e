import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { CopyEvent, TagResult } from "#mirror/copy-result.ts";
import { Progress } from "./progress.ts";

const names = { source: "a.test/x", target: "b.test/x", tag: "1" };
const none = {
  bytesCopied: 0,
  blobsCopied: 0,
  blobsMounted: 0,
  blobsSkipped: 0,
  manifestsCopied: 0,
};

function sent(digest: string, sentBytes: number, sizeBytes = 1_000): CopyEvent {
  return { kind: "blobProgress", ...names, digest, sentBytes, sizeBytes };
}

function tagDone(outcome: "copied" | "unchanged"): CopyEvent {
  const result: TagResult = {
    tag: "1",
    outcome,
    digest: "sha256:1",
    digestDiffers: false,
    ...none,
  };
  return { kind: "tagDone", ...names, result };
}

describe("Progress", () => {
  test("counts tags by what became of them", () => {
    const progress = new Progress();
    for (const outcome of ["copied", "unchanged", "unchanged"] as const) {
      progress.note({ kind: "tagStarted", ...names }, 0);
      progress.note(tagDone(outcome), 0);
    }
    progress.note({ kind: "tagStarted", ...names }, 0);
    const { copied, unchanged, failed, running } = progress.view(0);

    assert.deepEqual(
      { copied, unchanged, failed, running },
      { copied: 1, unchanged: 2, failed: 0, running: 1 },
    );
  });

  test("shows blobs until they are there", () => {
    const progress = new Progress();
    progress.note(sent("sha256:a", 400), 0);
    progress.note(sent("sha256:b", 100), 0);
    const { blobs, sentBytes } = progress.view(0);

    assert.deepEqual(
      blobs.map(({ label, digest, sentBytes: bytes }) => [label, digest, bytes]),
      [
        ["a.test/x:1", "sha256:a", 400],
        ["a.test/x:1", "sha256:b", 100],
      ],
    );
    assert.equal(sentBytes, 500);

    progress.note(
      { kind: "blobDone", ...names, digest: "sha256:a", sizeBytes: 1_000, how: "copied" },
      1,
    );
    assert.equal(progress.view(1).blobs.length, 1);
    assert.equal(progress.view(1).sentBytes, 1_100);
  });

  test("forgets what a tag that failed had under way", () => {
    const progress = new Progress();
    progress.note(sent("sha256:a", 400), 0);
    progress.note(tagDone("unchanged"), 0);

    assert.deepEqual(progress.view(0).blobs, []);
  });

  test("says how fast it goes, after a moment and over the last seconds", () => {
    const progress = new Progress();
    for (let ms = 0; ms <= 10_000; ms += 100) progress.note(sent("sha256:a", ms, 20_000), ms);

    const { bytesPerSecond, blobs } = progress.view(10_000);
    assert.ok(Math.abs(bytesPerSecond - 1_000) < 50, String(bytesPerSecond));
    assert.ok(Math.abs((blobs[0]?.bytesPerSecond ?? 0) - 1_000) < 50);
    assert.equal(progress.view(20_000).bytesPerSecond, 0, "nothing came any more");
  });

  test("does not take for speed what was there before", () => {
    const progress = new Progress();
    progress.note(sent("sha256:a", 5_000_000, 9_000_000), 0);
    progress.note(sent("sha256:a", 5_001_000, 9_000_000), 1_000);

    assert.equal(progress.view(1_000).bytesPerSecond, 1_000);
  });

  test("says which registries want to be left alone, until they do no more", () => {
    const progress = new Progress();
    progress.waitFor("a.test", 5_000);
    progress.waitFor("b.test", 9_000);
    progress.waitFor("b.test", undefined);

    assert.deepEqual(progress.view(1_000).waits, [{ host: "a.test", leftMs: 4_000 }]);
    assert.deepEqual(progress.view(6_000).waits, []);
  });
});
