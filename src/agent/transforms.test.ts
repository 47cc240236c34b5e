import assert from "node:assert/strict";
import { test } from "node:test";

import { nodes } from "#kube/resource.ts";
import { aPlan } from "#test/agent-world.ts";
import { slimNode, slimPlan } from "./transforms.ts";

test("slimNode() keeps the name, the labels and the conditions, and no list of images", () => {
  const metadata = { name: "worker", uid: "1", resourceVersion: "7", labels: { a: "b" } };
  const conditions = [{ type: "Ready", status: "True" }];
  const node = nodes.parse({
    metadata: { ...metadata, annotations: { long: "x" } },
    spec: { taints: [] },
    status: { conditions, images: [{ names: ["r.io/x:1"] }] },
  });

  assert.deepEqual(slimNode(node), { metadata, status: { conditions } });
});

test("slimNode() takes a node without a status", () => {
  assert.deepEqual(slimNode({ metadata: { name: "new" } }).status, { conditions: [] });
});

test("slimPlan() keeps the spec and what identifies the plan", () => {
  const plan = aPlan("a/one", ["r.io/x:1"]);
  const full = { ...plan, metadata: { ...plan.metadata, annotations: { long: "x" } } };

  assert.deepEqual(slimPlan(full), plan);
});
