import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { aPolicy } from "#test/pod-facts.ts";
import { validateImagePolicy } from "./image-policy-validation.ts";

const bad = aPolicy("bad", {
  images: ["nginx"],
  namespaceSelector: { matchLabels: { "a b": "c" } },
  exempt: { namespaces: ["team", "kube-*"] },
});

describe("validateImagePolicy()", () => {
  test("finds nothing wrong with a policy that is in order", () => {
    const policy = aPolicy("all", {
      mode: "Force",
      nodes: "Required",
      pullPolicy: "Never",
      images: ["docker.io/library/*", "**"],
      exempt: { namespaces: ["team"], users: ["system:serviceaccount:ci:builder"] },
    });

    assert.deepEqual(validateImagePolicy(policy), { faults: [], warnings: [] });
  });

  test("tells all that is wrong at once, each with its field and value", () => {
    const { faults } = validateImagePolicy(bad);

    assert.deepEqual(
      faults.map(({ path, value }) => [path.replace(/\.matchLabels.*/, ""), value]),
      [
        ["spec.namespaceSelector", "a b"],
        ["spec.images[0]", "nginx"],
        ["spec.exempt.namespaces[1]", "kube-*"],
      ],
    );
  });

  test("does not tell again what an update leaves as it was", () => {
    const { spec } = bad;
    const worse = aPolicy("bad", { ...spec, images: ["nginx", "redis"] });

    assert.deepEqual(validateImagePolicy(bad, bad).faults, []);
    assert.deepEqual(
      validateImagePolicy(worse, bad).faults.map(({ value }) => value),
      ["redis"],
    );
  });

  const warned: Record<string, [Parameters<typeof aPolicy>[1], RegExp]> = {
    "a policy that does nothing": [{ mode: "Force" }, /changes nothing and refuses nothing/],
    "settings that are not used": [{ mode: "Off", nodes: "Preferred" }, /are not used/],
    "Never without Required": [{ mode: "Force", pullPolicy: "Never" }, /acts as "IfNotPresent"/],
    "refusals that are opted into": [{ mode: "OptIn", admit: "OnlyAvailable" }, /are let in/],
    "exclusions that are not looked at": [
      { mode: "OptIn", includeContainers: ["a"], excludeContainers: ["b"] },
      /spec\.excludeContainers: is not used/,
    ],
  };
  for (const [what, [spec, warning]] of Object.entries(warned)) {
    test(`warns of ${what}`, () => {
      const { faults, warnings } = validateImagePolicy(aPolicy("p", spec));

      assert.deepEqual(faults, []);
      assert.equal(warnings.length, 1);
      assert.match(String(warnings), warning);
    });
  }
});
