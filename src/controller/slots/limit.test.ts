import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { ImagePlan, ImagePlanSpec } from "#api/v1/image-plan.ts";
import { slotLimit } from "./limit.ts";

function aPlan(spec: Partial<ImagePlanSpec>): ImagePlan {
  return {
    metadata: { name: "tools", namespace: "team" },
    spec: { selector: [], priority: 0, images: [], ...spec },
  };
}

describe("slotLimit()", () => {
  const labels = { zone: "a" };
  const table: [number | string, totalNodes: number, limit: number | undefined][] = [
    [1, 10, 1],
    [25, 10, 25],
    ["10%", 100, 10],
    ["10%", 101, 11],
    ["1%", 3, 1],
    ["50%", 0, 1],
    ["100%", 7, 7],
    ["101%", 7, undefined],
    ["0%", 7, undefined],
    [0, 7, 1],
  ];
  for (const [maxConcurrentNodes, totalNodes, limit] of table) {
    test(`is ${limit} for ${maxConcurrentNodes} of ${totalNodes}`, () => {
      assert.equal(slotLimit({ plan: aPlan({ maxConcurrentNodes }), labels, totalNodes }), limit);
    });
  }

  test("is not known for no plan, no bound, other nodes, and before nodes are counted", () => {
    const plan = aPlan({ maxConcurrentNodes: "10%" });
    const elsewhere = aPlan({
      maxConcurrentNodes: 1,
      selector: [{ key: "zone", operator: "In", values: ["b"] }],
    });
    for (const facts of [
      { plan: undefined, labels, totalNodes: 1 },
      { plan: aPlan({}), labels, totalNodes: 1 },
      { plan: elsewhere, labels, totalNodes: 1 },
      { plan, labels: undefined, totalNodes: 1 },
      { plan, labels, totalNodes: undefined },
    ]) {
      assert.equal(slotLimit(facts), undefined);
    }
  });
});
