import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { ImageStatus } from "#api/v1/image.ts";
import { happeningsOf } from "./events.ts";

const lastTransitionTime = "2026-01-01T00:00:00Z";
const time = lastTransitionTime;

function aStatus({
  error = 0,
  reason = "Denied",
  conditions = [],
}: {
  error?: number;
  reason?: string;
  conditions?: { type: string; status: "True" | "False"; reason: string; message: string }[];
} = {}): ImageStatus {
  const nodes = { available: 0, pending: 0, error, unknown: 0 };
  const lastError = { node: "n1", reason, message: "unauthorized: no", time };
  return {
    observedGeneration: 1,
    totalNodes: error,
    totalImages: 1,
    condition: nodes,
    images: [{ reference: "r.io/x:1", label: "l", ...nodes, ...(error > 0 && { lastError }) }],
    conditions: conditions.map((condition) => ({ ...condition, lastTransitionTime })),
  };
}

describe("happeningsOf()", () => {
  test("warns of an image that came to fail, in the registry's words", () => {
    assert.deepEqual(happeningsOf(aStatus(), aStatus({ error: 2 })), [
      {
        type: "Warning",
        reason: "PullFailed",
        action: "PullImage",
        note: "Cannot pull r.io/x:1 on 2 nodes, last on n1: Denied: unauthorized: no",
        subject: "r.io/x:1",
      },
    ]);
  });

  test("warns again when it fails for another reason, and not when it goes on failing", () => {
    const before = aStatus({ error: 1 });

    assert.deepEqual(happeningsOf(before, aStatus({ error: 5 })), []);
    assert.equal(happeningsOf(before, aStatus({ error: 1, reason: "NotFound" })).length, 1);
  });

  test("warns of a condition when it turns wrong, once", () => {
    const missing = {
      type: "PullSecretsFound",
      status: "False",
      reason: "SecretNotFound",
      message: 'Secret "login" does not exist',
    } as const;
    const troubled = aStatus({ conditions: [missing] });

    assert.deepEqual(
      happeningsOf(undefined, troubled).map(({ reason, note }) => [reason, note]),
      [["SecretNotFound", 'Secret "login" does not exist']],
    );
    assert.deepEqual(happeningsOf(troubled, troubled), []);
  });

  test("tells when it becomes Ready", () => {
    const ready = { type: "Ready", reason: "AllNodesHoldImages", message: "2 of 2" } as const;
    const before = aStatus({ conditions: [{ ...ready, status: "False" }] });
    const after = aStatus({ conditions: [{ ...ready, status: "True" }] });

    assert.deepEqual(
      happeningsOf(before, after).map(({ type, reason }) => [type, reason]),
      [["Normal", "Ready"]],
    );
    assert.deepEqual(happeningsOf(after, after), []);
  });
});
