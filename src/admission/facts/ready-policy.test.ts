import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { ImagePolicySpec } from "#api/v1/image-policy.ts";
import type { ReadyPolicy } from "#admission/pods/model.ts";
import { aPolicy } from "#test/pod-facts.ts";
import { comparePolicies, readyPolicy } from "./ready-policy.ts";

const nginx = "docker.io/library/nginx:1.29";

function ready(spec: Partial<ImagePolicySpec>): ReadyPolicy {
  const result = readyPolicy(aPolicy("p", spec));
  assert.ok(!Array.isArray(result), JSON.stringify(result));
  return result;
}

function pathsOfProblems(spec: Partial<ImagePolicySpec>): string[] {
  const result = readyPolicy(aPolicy("p", spec));
  assert.ok(Array.isArray(result));
  return result.map(({ path }) => path);
}

const request = { namespace: "team", user: "anna", groups: ["devs"] };

describe("readyPolicy()", () => {
  test("selects everything that nothing is said of", () => {
    for (const spec of [{}, { images: [], includeContainers: [], excludeContainers: [] }]) {
      const policy = ready(spec);
      assert.equal(policy.selectsPod(request, {}), true);
      assert.equal(policy.selectsImage(nginx), true);
      assert.equal(policy.selectsContainer("web"), true);
    }
  });

  test("takes over what needs no reading", () => {
    const { mode, pullPolicy, nodes, admit, enforcement, name } = ready({
      mode: "Force",
      pullPolicy: "Never",
      nodes: "Required",
      admit: "OnlyAvailable",
      enforcement: "Audit",
    });
    assert.deepEqual(
      [name, mode, pullPolicy, nodes, admit, enforcement],
      ["p", "Force", "Never", "Required", "OnlyAvailable", "Audit"],
    );
  });

  test("selects images by any of its globs", () => {
    const policy = ready({ images: ["r.example/**", "docker.io/library/*"] });
    assert.equal(policy.selectsImage(nginx), true);
    assert.equal(policy.selectsImage("r.example/a/b:1"), true);
    assert.equal(policy.selectsImage("docker.io/grafana/grafana:1"), false);
  });

  test("selects namespaces by their labels, but not those that are exempt", () => {
    const namespaceSelector = { matchLabels: { team: "red" } };
    const policy = ready({ namespaceSelector, exempt: { namespaces: ["lab"] } });
    assert.equal(policy.selectsPod(request, { team: "red" }), true);
    assert.equal(policy.selectsPod(request, { team: "blue" }), false);
    assert.equal(policy.selectsPod({ ...request, namespace: "lab" }, { team: "red" }), false);
  });

  test("leaves exempt users and groups alone", () => {
    const policy = ready({ exempt: { users: ["system:serviceaccount:ci:b"], groups: ["ops"] } });
    assert.equal(policy.selectsPod(request, {}), true);
    assert.equal(policy.selectsPod({ ...request, user: "system:serviceaccount:ci:b" }, {}), false);
    assert.equal(policy.selectsPod({ ...request, groups: ["devs", "ops"] }, {}), false);
  });

  test("takes the containers it includes, whatever it excludes", () => {
    const policy = ready({ includeContainers: ["web-*"], excludeContainers: ["web-1", "side"] });
    assert.equal(policy.selectsContainer("web-1"), true);
    assert.equal(policy.selectsContainer("side"), false);
    assert.equal(policy.selectsContainer("other"), false);
  });

  test("takes all containers but those it excludes", () => {
    const policy = ready({ excludeContainers: ["istio-*"] });
    assert.equal(policy.selectsContainer("istio-proxy"), false);
    assert.equal(policy.selectsContainer("web"), true);
  });

  test("reads a number of nodes, or a share", () => {
    assert.deepEqual(ready({ minNodes: 3 }).minNodes, { count: 3 });
    assert.deepEqual(ready({ minNodes: "10%" }).minNodes, { share: 0.1 });
    assert.deepEqual(ready({ minNodes: "100%" }).minNodes, { share: 1 });
  });

  test("tells all problems at once", () => {
    const spec: Partial<ImagePolicySpec> = {
      namespaceSelector: { matchExpressions: [{ key: "x", operator: "In", values: [] }] },
      images: [nginx, "nginx:*", "docker.io/library/nginx", "localhost:5000/a"],
      minNodes: "0%",
    };
    assert.deepEqual(pathsOfProblems(spec), [
      "spec.namespaceSelector.matchExpressions[0].values",
      "spec.images[1]",
      "spec.images[2]",
      "spec.images[3]",
      "spec.minNodes",
    ]);
  });

  test("refuses numbers of nodes that a cluster stored before there was a rule", () => {
    for (const minNodes of [0, "", "101%", "-1%", "5"]) {
      assert.deepEqual(pathsOfProblems({ minNodes }), ["spec.minNodes"]);
    }
  });

  test("takes globs that can match a full name", () => {
    const images = ["**", "**/nginx:*", "r.example/**", "r/a@sha256:*", "localhost:5000/a:1"];
    assert.equal(ready({ images }).selectsImage("localhost:5000/a:1"), true);
  });
});

test("comparePolicies() puts the highest priority first, and of equal ones the first by name", () => {
  const policies = [
    aPolicy("b"),
    aPolicy("low", { priority: -1 }),
    aPolicy("a"),
    aPolicy("z", { priority: 10 }),
  ];

  assert.deepEqual(
    policies.toSorted(comparePolicies).map(({ metadata }) => metadata.name),
    ["z", "a", "b", "low"],
  );
});
