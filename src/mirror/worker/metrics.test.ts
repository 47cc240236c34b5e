import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { CopyEvent, CopyOutcome } from "#mirror/copy-result.ts";
import { Registry } from "#telemetry/metrics.ts";
import { countCopy, mirrorMetrics } from "./metrics.ts";

const names = { source: "s", target: "t", tag: "1" };

function tagDone(outcome: CopyOutcome): CopyEvent {
  const none = { bytesCopied: 0, blobsCopied: 0, blobsMounted: 0, blobsSkipped: 0 };
  return {
    kind: "tagDone",
    ...names,
    result: { tag: "1", ...outcome, ...none, manifestsCopied: 0 },
  };
}

function blobDone(how: "copied" | "skipped"): CopyEvent {
  return { kind: "blobDone", ...names, digest: "d", sizeBytes: 100, how };
}

describe("countCopy()", () => {
  test("counts tags by what became of them, and the bytes that were sent", () => {
    const registry = new Registry();
    const metrics = mirrorMetrics(registry);
    const events = [
      blobDone("copied"),
      blobDone("skipped"),
      tagDone({ outcome: "copied", digest: "d", digestDiffers: false }),
      tagDone({ outcome: "unchanged", digest: "d", digestDiffers: false }),
      tagDone({ outcome: "failed", code: "DENIED", reason: "no" }),
      tagDone({ outcome: "throttled", reason: "too many" }),
    ];
    for (const event of events) countCopy(metrics, event);

    const page = registry.render();
    for (const outcome of ["copied", "unchanged", "failed", "throttled"]) {
      assert.match(page, new RegExp(`^coral_mirror_tags_total\\{outcome="${outcome}"\\} 1$`, "m"));
    }
    assert.match(page, /^coral_mirror_copied_bytes_total 100$/m);
  });
});
