import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { compileLabelSelector, labelSelectorProblems } from "./label-selector.ts";

type Selector = Parameters<typeof compileLabelSelector>[0];
type Operator = NonNullable<Selector["matchExpressions"]>[number]["operator"];

function expression(key: string, operator: Operator, values?: readonly string[]): Selector {
  return { matchExpressions: [{ key, operator, ...(values && { values }) }] };
}

describe("compileLabelSelector()", () => {
  const labels = { team: "red", stage: "" };
  const table: readonly [name: string, selector: Selector, isMatch: boolean][] = [
    ["an empty selector takes all", {}, true],
    ["labels have their values", { matchLabels: { team: "red", stage: "" } }, true],
    ["one label has another value", { matchLabels: { team: "red", stage: "x" } }, false],
    ["a label is not there", { matchLabels: { tier: "" } }, false],
    [
      "no label is inherited",
      { matchExpressions: [{ key: "toString", operator: "Exists" }] },
      false,
    ],
    ["In one of the values", expression("team", "In", ["blue", "red"]), true],
    ["In none of the values", expression("team", "In", ["blue"]), false],
    ["In, without the label", expression("tier", "In", [""]), false],
    ["NotIn the values", expression("team", "NotIn", ["blue"]), true],
    ["NotIn, without the label", expression("tier", "NotIn", ["blue"]), true],
    ["NotIn, among the values", expression("team", "NotIn", ["red"]), false],
    ["Exists", expression("stage", "Exists"), true],
    ["Exists, without the label", expression("tier", "Exists"), false],
    ["DoesNotExist", expression("tier", "DoesNotExist"), true],
    ["DoesNotExist, with the label", expression("stage", "DoesNotExist"), false],
    [
      "all must hold",
      { matchLabels: { team: "red" }, ...expression("stage", "DoesNotExist") },
      false,
    ],
  ];
  for (const [name, selector, isMatch] of table) {
    test(`${name}: ${isMatch}`, () => {
      assert.equal(compileLabelSelector(selector)(labels), isMatch);
    });
  }
});

describe("labelSelectorProblems()", () => {
  test("finds nothing wrong with what Kubernetes takes", () => {
    const selector: Selector = {
      matchLabels: { "kubernetes.io/metadata.name": "team", "a_b.c": "" },
      matchExpressions: [
        { key: "x", operator: "In", values: ["1", "v1.2_3-4"] },
        { key: "x", operator: "DoesNotExist" },
      ],
    };

    assert.deepEqual(labelSelectorProblems("s", selector), []);
  });

  test("tells everything at once, each with its field and its value", () => {
    const selector: Selector = {
      matchLabels: { "a/b/c": "x y" },
      matchExpressions: [
        { key: "", operator: "In", values: [] },
        { key: "Upper.example/x", operator: "Exists", values: ["y"] },
        { key: "x", operator: "NotIn", values: ["-"] },
      ],
    };

    assert.deepEqual(
      labelSelectorProblems("s", selector).map(({ path, value }) => [path, value]),
      [
        ["s.matchLabels", "a/b/c"],
        ["s.matchLabels[a/b/c]", "x y"],
        ["s.matchExpressions[0].key", ""],
        ["s.matchExpressions[0].values", ""],
        ["s.matchExpressions[1].key", "Upper.example/x"],
        ["s.matchExpressions[1].values", "y"],
        ["s.matchExpressions[2].values[0]", "-"],
      ],
    );
  });
});
