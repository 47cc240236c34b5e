import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { imageLabel } from "#api/v1/labels.ts";
import type { JsonObject } from "#json/json.ts";
import { fitsOf } from "./fits.ts";
import type { NodeFact } from "./model.ts";

const held = imageLabel("r.io/app:1");

function aNode(more: Partial<NodeFact> = {}): NodeFact {
  return {
    name: "n1",
    labels: { zone: "a", cores: "8", [held]: "available" },
    taints: [],
    ...more,
  };
}

function fits(spec: unknown, node: Partial<NodeFact> = {}): boolean {
  return fitsOf({ spec })(aNode(node));
}

function requiring(...nodeSelectorTerms: unknown[]): JsonObject {
  const requiredDuringSchedulingIgnoredDuringExecution = { nodeSelectorTerms };
  return { affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution } } };
}

function asking(key: string, operator: string, ...values: unknown[]): JsonObject {
  return { key, operator, ...(values.length > 0 && { values }) };
}

function fitsTerm(...matchExpressions: unknown[]): boolean {
  return fits(requiring({ matchExpressions }));
}

describe("fitsOf()", () => {
  test("takes any node for a pod that asks for nothing", () => {
    for (const spec of [
      undefined,
      {},
      { affinity: null },
      { affinity: {} },
      { affinity: { nodeAffinity: {} } },
    ]) {
      assert.equal(fits(spec), true);
    }
  });

  test("wants all labels of the node selector", () => {
    assert.equal(fits({ nodeSelector: { zone: "a", cores: "8" } }), true);
    assert.equal(fits({ nodeSelector: { zone: "b" } }), false);
    assert.equal(fits({ nodeSelector: { constructor: "x" } }), false);
    assert.equal(fits({ nodeSelector: "zone" }), false);
    assert.equal(fits({ nodeSelector: null }), true);
  });

  test("knows every operator of node affinity, and no other", () => {
    assert.equal(fitsTerm(asking("zone", "In", "a", "b")), true);
    assert.equal(fitsTerm(asking("zone", "In", "b")), false);
    assert.equal(fitsTerm(asking("zone", "NotIn", "b")), true);
    assert.equal(fitsTerm(asking("rack", "NotIn", "b")), true);
    assert.equal(fitsTerm(asking("zone", "Exists")), true);
    assert.equal(fitsTerm(asking("zone", "DoesNotExist")), false);
    assert.equal(fitsTerm(asking("cores", "Gt", "4")), true);
    assert.equal(fitsTerm(asking("cores", "Lt", "4")), false);
    assert.equal(fitsTerm(asking("zone", "in", "a")), false);
    assert.equal(fitsTerm(asking(held, "In", "available")), true);
    assert.equal(fitsTerm(asking(held, "In", "error")), false);
  });

  test("wants all requirements of one of the terms", () => {
    const [a, b] = [asking("zone", "In", "a"), asking("zone", "In", "b")];

    assert.equal(fitsTerm(a, b), false);
    assert.equal(fits(requiring({ matchExpressions: [b] }, { matchExpressions: [a] })), true);
  });

  test("takes no node for a term that asks for nothing, nor for no term", () => {
    for (const terms of [[{}], [{ matchExpressions: [] }], [null], ["x"], []]) {
      assert.equal(fits(requiring(...terms)), false);
    }
    assert.equal(fits(requiring({}, { matchExpressions: [asking("zone", "Exists")] })), true);
  });

  test("compares names of nodes", () => {
    const matchFields = [asking("metadata.name", "In", "n1")];

    assert.equal(fits(requiring({ matchFields })), true);
    assert.equal(fits(requiring({ matchFields }), { name: "n2" }), false);
    assert.equal(fits(requiring({ matchFields: [asking("metadata.uid", "In", "n1")] })), false);
  });

  test("wants taints that keep pods away to be tolerated", () => {
    const taints = [{ key: "gpu", value: "yes", effect: "NoSchedule" }];
    const withTolerations = (...tolerations: unknown[]): boolean =>
      fits({ tolerations }, { taints });

    assert.equal(withTolerations(), false);
    assert.equal(withTolerations({ key: "gpu", value: "yes" }), true);
    assert.equal(withTolerations({ key: "gpu", operator: "Equal", value: "no" }), false);
    assert.equal(withTolerations({ key: "gpu", operator: "Exists" }), true);
    assert.equal(withTolerations({ operator: "Exists" }), true);
    assert.equal(withTolerations({ operator: "Exists", effect: "NoExecute" }), false);
    assert.equal(withTolerations({ key: "gpu", operator: "Exists", effect: "NoSchedule" }), true);
    assert.equal(withTolerations({ key: "cpu", operator: "Exists" }), false);
    assert.equal(withTolerations("all"), false);
  });

  test("does not mind taints that only advise", () => {
    assert.equal(fits({}, { taints: [{ key: "x", effect: "PreferNoSchedule" }] }), true);
    assert.equal(fits({}, { taints: [{ key: "x", effect: "NoExecute" }] }), false);
  });

  test("asks nothing else of the node that a pod names", () => {
    const taints = [{ key: "x", effect: "NoSchedule" }];

    assert.equal(fits({ nodeName: "n1", nodeSelector: { zone: "b" } }, { taints }), true);
    assert.equal(fits({ nodeName: "n2" }), false);
  });

  test("counts as there what is added to pods, where it is told to", () => {
    const spec = requiring({ matchExpressions: [asking(held, "In", "available")] });
    const node = aNode({ labels: {} });

    assert.equal(fitsOf({ spec })(node), false);
    assert.equal(fitsOf({ spec }, new Set([held]))(node), true);
  });

  test("takes no node for a pod that asks for too much", () => {
    const values = Array.from({ length: 2_000 }, (_, at) => `n${at}`);
    const tolerations = values.map((key) => ({ key, operator: "Exists" }));

    assert.equal(fitsTerm(asking("zone", "NotIn", ...values)), false);
    assert.equal(fits({ tolerations }), false);
  });
});
