import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { Condition } from "#kube/types.ts";
import { setCondition } from "./conditions.ts";

describe("setCondition()", () => {
  const ready: Condition = {
    type: "Ready",
    status: "False",
    reason: "NodesPulling",
    message: "1 of 3 nodes hold every image",
    lastTransitionTime: "2026-01-01T00:00:00Z",
  };
  const other: Condition = { ...ready, type: "Other" };
  const later = new Date("2026-01-01T00:05:00.123Z");

  test("keeps lastTransitionTime while the status stays", () => {
    const next = { ...ready, reason: "NodesFailing", message: "2 of 3 nodes" };

    assert.deepEqual(setCondition([ready, other], next, later), [next, other]);
  });

  test("moves lastTransitionTime when the status changes", () => {
    const [changed] = setCondition([ready], { ...ready, status: "True" }, later);

    assert.equal(changed?.lastTransitionTime, "2026-01-01T00:05:00Z");
  });

  test("puts a new type at the end and leaves the given list alone", () => {
    const given: readonly Condition[] = Object.freeze([ready]);
    const result = setCondition(given, { ...other, status: "True" }, later);

    assert.deepEqual(
      result.map(({ type }) => type),
      ["Ready", "Other"],
    );
    assert.equal(result[1]?.lastTransitionTime, "2026-01-01T00:05:00Z");
  });
});
