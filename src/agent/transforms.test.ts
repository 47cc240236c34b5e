import assert from "node:assert/strict";
import { test } from "node:test";

import { nodes } from "#kube/resource.ts";
import { aPlan } from "#test/agent-world.ts";
import { slimNode, slimPlan, slimReport } from "./transforms.ts";

test("slimNode() keeps the name, the labels, the conditions and the platform, and no list of images", () => {
  const metadata = { name: "worker", uid: "1", resourceVersion: "7", labels: { a: "b" } };
  const conditions = [{ type: "Ready", status: "True" }];
  const node = nodes.parse({
    metadata: { ...metadata, annotations: { long: "x" } },
    spec: { taints: [] },
    status: {
      conditions,
      images: [{ names: ["r.io/x:1"] }],
      nodeInfo: { operatingSystem: "linux", architecture: "arm64", kernelVersion: "6.1" },
    },
  });

  const nodeInfo = { operatingSystem: "linux", architecture: "arm64" };
  assert.deepEqual(slimNode(node), { metadata, status: { conditions, nodeInfo } });
});

test("slimNode() takes a node without a status", () => {
  assert.deepEqual(slimNode({ metadata: { name: "new" } }).status, {
    conditions: [],
    nodeInfo: {},
  });
});

test("slimPlan() keeps the spec and what identifies the plan", () => {
  const plan = aPlan("a/one", ["r.io/x:1"]);
  const full = { ...plan, metadata: { ...plan.metadata, annotations: { long: "x" } } };

  assert.deepEqual(slimPlan(full), plan);
});

test("slimReport() keeps the owner and the version", () => {
  const metadata = {
    name: "worker",
    uid: "1",
    resourceVersion: "7",
    ownerReferences: [{ apiVersion: "v1", kind: "Node", name: "worker", uid: "2" }],
  };
  const full = { metadata: { ...metadata, annotations: { long: "x" } } };

  assert.deepEqual(slimReport(full), { metadata });
});
