import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { ClusterFacts } from "#admission/facts/cluster-facts.ts";
import { fixedFeed } from "#admission/facts/feed.ts";
import { readyPolicy } from "#admission/facts/ready-policy.ts";
import { imagePolicyKind, type ImagePolicy, type ImagePolicySpec } from "#api/v1/image-policy.ts";
import { imageLabel } from "#api/v1/labels.ts";
import type { JsonObject } from "#json/json.ts";
import type { Node } from "#kube/types.ts";
import { silentLog } from "#telemetry/log.ts";
import { parseDocuments } from "./documents.ts";
import { explainPod, type PodExplanation } from "./explanation.ts";
import { formatExplanation } from "./explain-text.ts";
import type { ClusterView } from "./whereabouts.ts";

const nginx = "docker.io/library/nginx:1.29";

function aPolicy(name: string, spec: Partial<ImagePolicySpec> = {}): ImagePolicy {
  return {
    metadata: { name },
    spec: {
      priority: 0,
      mode: "Force",
      pullPolicy: "Unchanged",
      nodes: "None",
      minNodes: 2,
      admit: "Any",
      enforcement: "Enforce",
      ...spec,
    },
  };
}

function aNode(name: string, state: string, isReady = true): Node {
  return {
    metadata: { name, labels: { [imageLabel(nginx)]: state } },
    status: { conditions: [{ type: "Ready", status: isReady ? "True" : "False" }] },
  };
}

/** A cluster that keeps nginx on nodes, and whose namespace is `shop`. */
function aView({
  policies = [],
  nodes = [aNode("node1", "available"), aNode("node2", "available")],
}: {
  policies?: readonly ImagePolicy[];
  nodes?: readonly Node[];
}): ClusterView {
  const plan = {
    metadata: { name: "web", namespace: "shop" },
    spec: { selector: [], priority: 0, images: [{ reference: nginx }] },
  };
  const facts = new ClusterFacts({
    policies: fixedFeed(policies),
    plans: fixedFeed([plan]),
    images: fixedFeed([]),
    nodes: fixedFeed(nodes),
    namespaces: fixedFeed([{ metadata: { name: "shop" } }]),
    ownPods: fixedFeed([]),
    ownNamespace: "coral-system",
    log: silentLog,
  });
  return { facts, nodes };
}

interface Given {
  image?: string;
  namespace?: string;
  annotations?: Record<string, string>;
  object?: JsonObject;
}

function explain(view: ClusterView, given: Given = {}): PodExplanation {
  const { image = "nginx:1.29", namespace = "shop", annotations = {}, object } = given;
  const container = { name: "web", image, imagePullPolicy: "Always" };
  const pod = object ?? { metadata: { annotations }, spec: { containers: [container] } };
  const creator = { user: "me", groups: [] };
  return explainPod({ name: "web", namespace, object: pod, creator }, view);
}

/** The text of a field, of the first image that has it. */
function fieldOf(explanation: PodExplanation, label: string): string | undefined {
  const lines = formatExplanation(explanation).split("\n");
  return lines.find((line) => line.startsWith(`  ${label.padEnd(12)}`))?.slice(14);
}

describe("explainPod()", () => {
  test("says what a policy would change, and in which patch", () => {
    const policies = [aPolicy("shop", { pullPolicy: "Never", nodes: "Required" })];
    const explanation = explain(aView({ policies }));

    assert.equal(explanation.verdict, "changed");
    assert.deepEqual(explanation.images[0]?.changes, [
      "imagePullPolicy: Always becomes Never",
      "the pod goes to nodes that hold the image",
    ]);
    const [patch = []] = explanation.patches;
    assert.ok(patch.some(({ path }) => path === "/spec/containers/0/imagePullPolicy"));
    assert.equal(fieldOf(explanation, "decided by"), 'ImagePolicy "shop"');
  });

  test("says what the other policies say", () => {
    const policies = [
      aPolicy("a", { priority: 1, images: ["ghcr.io/**"] }),
      aPolicy("b", { priority: 1, exempt: { users: ["me"] } }),
      aPolicy("c", { priority: 1, excludeContainers: ["web"] }),
      aPolicy("d", { pullPolicy: "IfNotPresent", enforcement: "Warn" }),
      aPolicy("e"),
    ];
    const explanation = explain(aView({ policies }));

    assert.deepEqual(
      explanation.images[0]?.policies.map(({ policy, word }) => `${policy}: ${word}`),
      [
        "a: not for this image",
        "b: not for this namespace, or who makes the pod",
        "c: not for this container",
        "d: is about it: mode Force, pullPolicy IfNotPresent, enforcement Warn",
        'e: comes after "d"',
      ],
    );
    assert.equal(explanation.verdict, "unchanged", "it only warns");
    assert.match(explanation.warnings.join(), /policy "d"/);
  });

  test("names as the one that decides the policy that has decided", () => {
    const glob = fc.constantFrom("docker.io/**", "ghcr.io/**", "**");
    const names = fc.uniqueArray(fc.constantFrom("a", "b", "c", "d"), { minLength: 1 });
    const spec = fc.record({
      priority: fc.integer({ min: 0, max: 2 }),
      mode: fc.constantFrom("Off", "Force"),
      images: fc.array(glob, { maxLength: 1 }),
      excludeContainers: fc.constantFrom([], ["web"]),
    });
    const property = fc.property(
      names,
      fc.array(spec, { minLength: 4, maxLength: 4 }),
      (of, specs) => {
        const policies = of.map((name, index) => aPolicy(name, specs[index]));
        const [image] = explain(aView({ policies })).images;
        const about = image?.policies.find(({ word }) => word.startsWith("is about it"));
        const { decidedBy } = image ?? {};
        assert.equal(decidedBy?.kind === "policy" ? decidedBy.name : undefined, about?.policy);
      },
    );
    fc.assert(property);
  });

  test("of a pod that runs, explains what would become of it were it made now", () => {
    const policies = [aPolicy("shop", { nodes: "Preferred" })];
    const spec = { nodeName: "node9", containers: [{ name: "web", image: nginx }] };
    const view = aView({ policies });

    const running = explain(view, { object: { metadata: {}, spec, status: { phase: "Running" } } });
    assert.equal(running.verdict, "changed");
    const placed = explain(view, { object: { metadata: {}, spec } });
    assert.equal(placed.verdict, "unchanged", "it says itself where it goes");
  });

  test("tells no change of what is so already", () => {
    const policies = [aPolicy("shop", { pullPolicy: "Never", nodes: "Required" })];
    const available = { key: imageLabel(nginx), operator: "In", values: ["available"] };
    const required = { nodeSelectorTerms: [{ matchExpressions: [available] }] };
    const nodeAffinity = { requiredDuringSchedulingIgnoredDuringExecution: required };
    const containers = [{ name: "web", image: nginx, imagePullPolicy: "Never" }];
    const metadata = { annotations: { "image.stvz.io/injected": "true" } };
    const object = { metadata, spec: { affinity: { nodeAffinity }, containers } };
    const { verdict, images } = explain(aView({ policies }), { object });

    assert.equal(verdict, "unchanged");
    assert.deepEqual(images[0]?.changes, []);
  });

  test("explains containers that were added for debugging as when they were added", () => {
    const policies = [aPolicy("shop", { pullPolicy: "IfNotPresent" })];
    const debug = { name: "debug", image: nginx, imagePullPolicy: "Always" };
    const spec = {
      containers: [{ name: "web", image: "a.test/b:1" }],
      ephemeralContainers: [debug],
    };
    const object = { metadata: {}, spec, status: { phase: "Running" } };
    const { images, patches } = explain(aView({ policies }), { object });

    assert.deepEqual(
      images.map(({ kind, changes }) => [kind, changes]),
      [
        ["container", []],
        ["ephemeralContainer", ["imagePullPolicy: Always becomes IfNotPresent"]],
      ],
    );
    assert.equal(patches.length, 2);
  });

  test("says where images are in namespaces that are left alone", () => {
    const explanation = explain(aView({ policies: [aPolicy("all")] }), {
      namespace: "kube-system",
    });

    assert.equal(fieldOf(explanation, "because"), 'namespace "kube-system" is left alone');
    assert.equal(fieldOf(explanation, "is on"), "2 of 2 nodes: node1, node2");
    assert.equal(fieldOf(explanation, "decided by"), "nobody");
  });
});

describe("docs/admission.md", () => {
  const folder = join(import.meta.dirname, "../../docs");

  test("has the example that is in docs/examples, and each field of a policy", async () => {
    const page = await readFile(join(folder, "admission.md"), "utf8");
    const example = await readFile(join(folder, "examples/first-policy.yaml"), "utf8");
    const fields = Object.keys(imagePolicyKind.schema.shape.spec.shape);

    assert.ok(page.includes(`\`\`\`yaml\n${example}\`\`\``));
    for (const field of fields) assert.ok(page.includes(`\`${field}\``), field);
  });

  test("shows an explanation as it is told", async () => {
    const page = await readFile(join(folder, "admission.md"), "utf8");
    const policies = [
      aPolicy("shop", { pullPolicy: "Never", nodes: "Required" }),
      aPolicy("base-images", { priority: 10, images: ["docker.io/library/debian:*"] }),
    ];
    const states = ["available", "available", "pending", "available"];
    const nodes = states.map((state, index) => aNode(`node${index + 1}`, state));
    const shown = formatExplanation(explain(aView({ policies, nodes })));

    assert.ok(page.includes(`$ coral explain pod -f pod.yaml\n${shown}\`\`\``), shown);
  });

  test("has a policy that can be obeyed", async () => {
    const text = await readFile(join(folder, "examples/first-policy.yaml"), "utf8");
    const [document] = parseDocuments(text).documents;
    const spec = imagePolicyKind.schema.shape.spec.parse(document?.value["spec"]);
    assert.ok(!Array.isArray(readyPolicy({ metadata: { name: "shop" }, spec })));
  });
});

describe("formatExplanation()", () => {
  test("tells nodes that hold an image from those that are not there yet", () => {
    const nodes = [
      aNode("node1", "available"),
      aNode("node2", "available", false),
      aNode("node3", "pending"),
      aNode("node4", "error"),
    ];
    assert.equal(
      fieldOf(explain(aView({ nodes })), "is on"),
      "1 of 4 nodes: node1; there, but taking no pods now: node2; still to come on node3; failing on node4",
    );
  });

  test("names ten nodes and counts the rest", () => {
    const nodes = Array.from({ length: 12 }, (_, index) => aNode(`n${index + 10}`, "available"));
    assert.match(
      fieldOf(explain(aView({ nodes })), "is on") ?? "",
      /^12 of 12 nodes: n10, .* n19 and 2 more$/,
    );
  });

  test("says how many of the nodes that hold an image take the pod", () => {
    const nodeSelector = { "kubernetes.io/hostname": "node1" };
    const object = {
      metadata: {},
      spec: { nodeSelector, containers: [{ name: "web", image: nginx }] },
    };
    assert.equal(
      fieldOf(explain(aView({}), { object }), "is on"),
      "2 of 2 nodes: node1, node2; the pod may go to 0 of them",
    );
  });

  test("shows a refusal, and what is no image of Coral's", () => {
    const policies = [aPolicy("strict", { admit: "OnlyAvailable" })];
    const explanation = explain(aView({ policies }), { image: "ghcr.io/a/b" });

    assert.equal(fieldOf(explanation, "would be"), "refused");
    assert.equal(fieldOf(explanation, "full name"), "ghcr.io/a/b:latest");
    assert.equal(fieldOf(explanation, "is on"), "nodes by chance only: no Image asks for it");
    assert.match(fieldOf(explanation, "refused") ?? "", /"ghcr\.io\/a\/b:latest" is on no node/);
  });

  test("obeys no control characters of a pod's author", () => {
    const explanation = explain(aView({}), { image: "a\u001B[2Jb\nc" });
    assert.equal(fieldOf(explanation, "image"), "a [2Jb c");
    assert.equal(fieldOf(explanation, "is on"), "no node: it is no image name");
  });
});
