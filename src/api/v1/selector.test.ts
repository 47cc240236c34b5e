import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { matchesSelector, selectorProblems, type Requirement } from "./selector.ts";

const labels = { arch: "amd64", zone: "a", cores: "16", empty: "" };

const fulfilled: Requirement[] = [
  { key: "arch", operator: "In", values: ["arm64", "amd64"] },
  { key: "arch", operator: "NotIn", values: ["arm64"] },
  { key: "gpu", operator: "NotIn", values: ["yes"] },
  { key: "empty", operator: "Exists" },
  { key: "gpu", operator: "DoesNotExist", values: [] },
  { key: "cores", operator: "Gt", values: ["15"] },
  { key: "cores", operator: "Lt", values: ["17"] },
  { key: "arch", operator: "in", values: ["amd64"] },
  { key: "arch", operator: "notin", values: ["arm64"] },
  { key: "arch", operator: "exists" },
  { key: "gpu", operator: "!" },
  { key: "arch", operator: "=", values: ["amd64"] },
  { key: "arch", operator: "==", values: ["amd64"] },
  { key: "empty", operator: "=", values: [""] },
  { key: "arch", operator: "!=", values: ["arm64"] },
  { key: "gpu", operator: "!=", values: ["yes"] },
  { key: "cores", operator: "gt", values: ["9"] },
  { key: "cores", operator: "lt", values: ["100"] },
];

const unfulfilled: Requirement[] = [
  { key: "arch", operator: "In", values: ["arm64"] },
  { key: "gpu", operator: "In", values: [""] },
  { key: "arch", operator: "NotIn", values: ["amd64"] },
  { key: "gpu", operator: "Exists" },
  { key: "toString", operator: "Exists" },
  { key: "empty", operator: "DoesNotExist" },
  { key: "cores", operator: "Gt", values: ["16"] },
  { key: "cores", operator: "Lt", values: ["16"] },
  { key: "arch", operator: "Gt", values: ["1"] },
  { key: "gpu", operator: "Lt", values: ["1"] },
  { key: "gpu", operator: "=", values: [""] },
  { key: "arch", operator: "!=", values: ["amd64"] },
];

const senseless: Record<string, Requirement> = {
  "[0].values: operators In and NotIn need at least one value, got []": {
    key: "arch",
    operator: "NotIn",
  },
  '[0].values: operators Exists and DoesNotExist take no values, got ["amd64"]': {
    key: "arch",
    operator: "Exists",
    values: ["amd64"],
  },
  '[0].values: operators =, == and != need exactly one value, got ["a","b"]': {
    key: "arch",
    operator: "!=",
    values: ["a", "b"],
  },
  '[0].values: operators Gt and Lt need exactly one value, a whole number, got ["1.5"]': {
    key: "cores",
    operator: "Gt",
    values: ["1.5"],
  },
  "[0].key: must name a node label": { key: "", operator: "!" },
};

describe("matchesSelector()", () => {
  for (const requirement of fulfilled) {
    test(`is fulfilled by ${JSON.stringify(requirement)}`, () => {
      assert.equal(matchesSelector([requirement], labels), true);
      assert.deepEqual(selectorProblems([requirement]), []);
    });
  }

  for (const requirement of unfulfilled) {
    test(`is not fulfilled by ${JSON.stringify(requirement)}`, () => {
      assert.equal(matchesSelector([requirement], labels), false);
      assert.deepEqual(selectorProblems([requirement]), []);
    });
  }

  test("selects everything without requirements, and else needs all of them", () => {
    const arch: Requirement = { key: "arch", operator: "Exists" };

    assert.equal(matchesSelector([], {}), true);
    assert.equal(matchesSelector([arch, { key: "gpu", operator: "!" }], labels), true);
    assert.equal(matchesSelector([arch, { key: "gpu", operator: "exists" }], labels), false);
  });
});

describe("selectorProblems()", () => {
  for (const [problem, requirement] of Object.entries(senseless)) {
    test(`says ${problem}, and nothing is selected`, () => {
      assert.deepEqual(selectorProblems([requirement]), [problem]);
      assert.equal(matchesSelector([requirement], labels), false);
    });
  }

  test("refuses a label that Coral itself writes, which could select and unselect for ever", () => {
    const key = `image.stvz.io/${"0".repeat(32)}`;
    const [problem] = selectorProblems([{ key, operator: "DoesNotExist" }]);

    assert.equal(problem, "[0].key: must not be a label that Coral itself writes");
  });

  test("names an operator that an older version let through", () => {
    const stored: Requirement[] = JSON.parse('[{"key":"a","operator":"Near"}]');

    assert.match(selectorProblems(stored)[0] ?? "", /^\[0\]\.operator: must be one of .*"Near"$/);
    assert.equal(matchesSelector(stored, labels), false);
  });
});
