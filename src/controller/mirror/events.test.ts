import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { MirrorStatus } from "#api/v1/mirror.ts";
import { happeningsOf } from "./events.ts";

type Conditions = NonNullable<MirrorStatus["conditions"]>;

function aStatus(
  more: Partial<MirrorStatus> = {},
  conditions: Record<string, `${"True" | "False"} ${string}`> = { Ready: "True AllTagsSynced" },
): MirrorStatus {
  const none = { repositories: 1, tags: 3, synced: 3, pending: 0, failed: 0, throttled: 0 };
  return {
    ...none,
    progress: "3/3",
    bytesCopied: 0,
    conditions: Object.entries(conditions).map(([type, text]): Conditions[number] => {
      const [status, reason = ""] = text.split(" ");
      return {
        type,
        status: status === "True" ? "True" : "False",
        reason,
        message: `${type}!`,
        lastTransitionTime: "2026-01-01T00:00:00Z",
      };
    }),
    ...more,
  };
}

function told(previous: MirrorStatus | undefined, next: MirrorStatus): string[] {
  return happeningsOf(previous, next).map(
    ({ type, reason, action, note }) => `${type} ${reason} ${action}: ${note}`,
  );
}

const busy = { Ready: "False Copying" } as const;

describe("happeningsOf()", () => {
  test("tells that everything is in step, after something was copied", () => {
    const synced = "Normal Synced CopyImages: 3 of 3 tags are right, 7 bytes copied so far";
    assert.deepEqual(told(undefined, aStatus({ bytesCopied: 7 })), [synced]);
    assert.deepEqual(told(aStatus({}, busy), aStatus({ bytesCopied: 7 })), [synced]);
    assert.deepEqual(told(aStatus({ bytesCopied: 5 }), aStatus({ bytesCopied: 7 })), [synced]);
  });

  test("tells nothing of a pass that found nothing new, or is not over", () => {
    assert.deepEqual(told(aStatus({ bytesCopied: 7 }), aStatus({ bytesCopied: 7 })), []);
    assert.deepEqual(told(aStatus(), aStatus({ bytesCopied: 7 }, busy)), []);
  });

  test("tells what failed in the registry's words, once for each reason", () => {
    const failure = { reference: "a.test/x:1", reason: "Denied", message: "no pull for you" };
    const failing = aStatus({ failures: [failure] }, busy);

    assert.deepEqual(told(aStatus({}, busy), failing), [
      "Warning CopyFailed CopyImage: Cannot copy a.test/x:1: Denied: no pull for you",
    ]);
    assert.deepEqual(told(failing, failing), []);
    const other = aStatus({ failures: [{ ...failure, reason: "NotFound" }] }, busy);
    assert.equal(told(failing, other).length, 1);
  });

  test("tells of no more than a few failures of one status", () => {
    const failures = Array.from({ length: 10 }, (_, index) => {
      return { reference: `a.test/x:${index}`, reason: "Denied", message: "" };
    });
    assert.equal(told(undefined, aStatus({ failures }, busy)).length, 5);
  });

  test("tells of conditions that came up", () => {
    const stalled = aStatus({}, { ...busy, Stalled: "True DestinationCollision" });
    assert.deepEqual(told(aStatus({}, busy), stalled), [
      "Warning DestinationCollision PlanCopies: Stalled!",
    ]);
    assert.deepEqual(told(stalled, stalled), []);
    assert.deepEqual(told(stalled, aStatus({}, busy)), []);
    const others = {
      DeleteUnsupported: "True RegistryRefuses",
      Suspended: "True Suspended",
    } as const;
    assert.deepEqual(told(undefined, aStatus({}, { ...busy, ...others })), [
      "Warning RegistryRefuses RemoveCopies: DeleteUnsupported!",
    ]);
  });

  test("tells how many copies were removed", () => {
    assert.deepEqual(told(aStatus({ removed: 2 }), aStatus({ removed: 5 })), [
      "Normal Removed RemoveCopies: Removed 3 copies that nobody asks for any more",
    ]);
    assert.deepEqual(told(aStatus({ removed: 5 }), aStatus()), []);
  });
});
