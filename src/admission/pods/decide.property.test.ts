import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { imageLabel } from "#api/v1/labels.ts";
import { isJsonObject, type JsonObject } from "#json/json.ts";
import { aNode, aPlan, aPolicy } from "#test/pod-facts.ts";
import { admit, aRequest, factsOf, type PodWorld } from "#test/pod-admission.ts";
import { parseWishes } from "./annotations.ts";
import { decidePod } from "./decide.ts";
import { fitsOf } from "./fits.ts";
import type { NodeFact } from "./model.ts";
import { patchOf } from "./patch.ts";

const kept = ["docker.io/library/nginx:1.29", "r.io/app:1", "r.io/tool:2"];
const rare = ["r.io/absent:1", "R.io//bad", ""];
const names = ["web", "side", "setup", "log"];

/** What is usual, most of the time. */
function mostly<T, U>(usual: fc.Arbitrary<T>, ...others: readonly U[]): fc.Arbitrary<T | U> {
  return fc.oneof(
    { weight: 7, arbitrary: usual },
    { weight: 1, arbitrary: fc.constantFrom(...others) },
  );
}

const image = mostly(fc.constantFrom("nginx:1.29", "r.io/app:1", "r.io/tool:2"), ...rare);
const label = fc.constantFrom(...kept.map(imageLabel));
const zone = fc.constantFrom("a", "b");

const container = fc.record(
  {
    name: fc.constantFrom(...names),
    image,
    imagePullPolicy: fc.constantFrom("Always", "IfNotPresent", "Never"),
    command: fc.constant(["run"]),
    unknown: fc.jsonValue({ maxDepth: 1 }),
  },
  { requiredKeys: ["name", "image"] },
);

const requirement: fc.Arbitrary<JsonObject> = fc.oneof(
  fc.record({ key: label, operator: fc.constant("In"), values: fc.constant(["available"]) }),
  fc.record({ key: label, operator: fc.constant("NotIn"), values: fc.constant(["error"]) }),
  fc.record({
    key: fc.constant("zone"),
    operator: fc.constantFrom("In", "NotIn"),
    values: fc.array(zone, { minLength: 1 }),
  }),
  fc.record({ key: fc.constant("zone"), operator: fc.constantFrom("Exists", "DoesNotExist") }),
);

const term = fc.record(
  {
    matchExpressions: fc.array(requirement, { maxLength: 3 }),
    matchFields: fc.constant([{ key: "metadata.name", operator: "NotIn", values: ["n0"] }]),
  },
  { requiredKeys: [] },
);

const nodeAffinity = fc.record({
  requiredDuringSchedulingIgnoredDuringExecution: mostly(
    fc.record({ nodeSelectorTerms: fc.array(term, { minLength: 1, maxLength: 3 }) }),
    null,
    {},
    { nodeSelectorTerms: [] },
  ),
  preferredDuringSchedulingIgnoredDuringExecution: mostly(
    fc.array(fc.record({ weight: fc.constantFrom(1, 100), preference: term }), { maxLength: 2 }),
    null,
  ),
});

const affinity = fc.oneof(
  fc.constantFrom(undefined, null, {}, { podAffinity: { x: 1 } }, { nodeAffinity: null }),
  fc.record({ nodeAffinity, podAntiAffinity: fc.constant({ y: [] }) }),
);

const annotations = fc.record(
  {
    "image.stvz.io/inject": fc
      .subarray([
        "pull-policy",
        "pull-policy=IfNotPresent",
        "selectors",
        "selectors=preferred",
        "x",
      ])
      .map((words) => words.join(",")),
    "image.stvz.io/include": fc.constantFrom("web", "s*", "*"),
    "image.stvz.io/exclude": fc.constantFrom("web", "s*", "none"),
    "image.stvz.io/injected": fc.constantFrom("true", "false"),
    "example.com/other": fc.constant("x"),
  },
  { requiredKeys: [] },
);

const volume = fc.record(
  {
    name: fc.constantFrom("data", "web"),
    image: fc.record({ reference: image, pullPolicy: fc.constant("Always") }, { requiredKeys: [] }),
    emptyDir: fc.constant({}),
  },
  { requiredKeys: ["name"] },
);

const owner = { kind: "DaemonSet", apiVersion: "apps/v1", name: "d", uid: "1", controller: true };

const pod: fc.Arbitrary<JsonObject> = fc.record({
  apiVersion: fc.constant("v1"),
  metadata: fc.record(
    {
      name: fc.constant("p"),
      annotations: fc.option(annotations),
      ownerReferences: mostly(fc.constant([]), [owner]),
      unknown: fc.constant(1),
    },
    { requiredKeys: ["name"] },
  ),
  spec: fc.record(
    {
      initContainers: fc.array(container, { maxLength: 2 }),
      containers: fc.array(container, { minLength: 1, maxLength: 3 }),
      volumes: fc.array(volume, { maxLength: 2 }),
      affinity,
      nodeSelector: fc.constantFrom({}, { zone: "a" }),
      tolerations: fc.constantFrom([], [{ operator: "Exists" }], [{ key: "t", value: "1" }]),
      nodeName: mostly(fc.constant(""), "n1"),
      unknown: fc.jsonValue({ maxDepth: 1 }),
    },
    { requiredKeys: ["containers", "affinity"] },
  ),
});

const policySpec = fc.record({
  priority: fc.nat(2),
  mode: mostly(fc.constant("Force" as const), "Off" as const, "OptIn" as const),
  images: mostly(fc.constant([]), ["docker.io/**"], ["r.io/*:*"]),
  pullPolicy: mostly(fc.constant("Never" as const), "Unchanged" as const, "IfNotPresent" as const),
  nodes: mostly(fc.constant("Required" as const), "None" as const, "Preferred" as const),
  minNodes: fc.constantFrom(1, 2, 3, "50%", "100%"),
  admit: fc.constantFrom("Any" as const, "OnlyAvailable"),
  enforcement: mostly(fc.constant("Enforce" as const), "Warn" as const, "Audit" as const),
  excludeContainers: fc.constantFrom([], ["side"]),
});

const node = fc.record({
  states: fc.tuple(...kept.map(() => mostly(fc.constant("available"), "pending", "error"))),
  labels: fc.constantFrom({}, { zone: "a" }, { zone: "b" }),
  taints: mostly(fc.constant([]), [{ key: "t", value: "1", effect: "NoSchedule" }]),
  isReady: mostly(fc.constant(true), false),
});

const world: fc.Arbitrary<PodWorld & { facts: readonly NodeFact[] }> = fc
  .record({
    policies: fc.array(policySpec, { minLength: 1, maxLength: 3 }),
    nodes: fc.array(node, { maxLength: 6 }),
    isPrivate: mostly(fc.constant(false), true),
    namespace: fc.constantFrom("team", "other"),
  })
  .map(({ policies, nodes, isPrivate, namespace }) => {
    const made = nodes.map(({ states, ...more }, index) => {
      const images = Object.fromEntries(kept.map((image, at) => [image, states[at] ?? ""]));
      return aNode(`n${index}`, images, more);
    });
    return {
      policies: policies.map((spec, index) => aPolicy(`p${index}`, spec)),
      plans: [aPlan(kept, { namespace, usesLogins: isPrivate })],
      nodes: made,
      facts: made.map(({ metadata: { name, labels = {} }, spec }) => ({
        name,
        labels,
        taints: spec?.taints ?? [],
      })),
    };
  });

describe("decidePod(), carried out by patchOf(), for any pod and policies", () => {
  test("changes nothing more of its own result", () => {
    fc.assert(
      fc.property(pod, world, (pod, world) => {
        const facts = factsOf(world);
        const first = admit(aRequest(pod), facts);
        const second = admit(aRequest(first.pod), facts);

        assert.deepEqual(second.patch, []);
        assert.deepEqual(second.decision.nodes.required, first.decision.nodes.required);
      }),
    );
  });

  test("changes nothing more of its own result with a container that came later", () => {
    fc.assert(
      fc.property(pod, world, container, (pod, world, late) => {
        const facts = factsOf(world);
        const first = admit(aRequest(pod), facts);
        const second = admit(aRequest(withContainer(first.pod, late)), facts);

        assert.deepEqual(admit(aRequest(second.pod), facts).patch, []);
        assert.ok(preferredTerms(second.pod) <= preferredTerms(pod) + 1, "one preference is added");
      }),
    );
  });

  test("drops nothing, and sets only pull policies, node affinity and its own mark", () => {
    const changed =
      /^add \/(?:spec\/(?:\w+\/\d+\/imagePullPolicy|volumes\/\d+\/image\/pullPolicy|affinity)|metadata\/annotations)/;
    fc.assert(
      fc.property(pod, world, (pod, world) => {
        const { patch, pod: patched } = admit(aRequest(pod), factsOf(world));

        for (const { op, path } of patch) assert.match(`${op} ${path}`, changed);
        assert.ok(isWithin(pod, patched), JSON.stringify(patch));
      }),
    );
  });

  test("lets no pod onto a node that it did not fit before", () => {
    fc.assert(
      fc.property(pod, world, (pod, world) => {
        const { pod: patched } = admit(aRequest(pod), factsOf(world));
        const [before, after] = [fitsOf(pod), fitsOf(patched)];

        for (const node of world.facts) if (after(node)) assert.ok(before(node));
      }),
      { numRuns: 300 },
    );
  });

  test("leaves no pod without a node because of a policy", () => {
    fc.assert(
      fc.property(pod, world, (pod, world) => {
        const facts = factsOf(world);
        const wishes = parseWishes(annotationsOf(pod));
        const { pod: patched, decision } = admit(aRequest(pod), facts);
        const fitting = facts.countFitting(fitsOf(pod), Infinity);
        const isOwnWish = wishes.nodes === "Required";

        if (fitting > 0 && !isOwnWish) assert.ok(facts.countFitting(fitsOf(patched), 1) > 0);
        if (wishes.pullPolicy !== undefined) return;
        for (const { pullPolicy, slot } of decision.slots) {
          if (pullPolicy !== "Never") continue;
          const label = imageLabel(slot.reference ?? "");
          const isThere = ({ labels }: NodeFact) => labels[label] === "available";
          assert.ok(world.facts.filter(fitsOf(patched)).every(isThere), "it could never start");
        }
      }),
    );
  });

  test("leaves out what annotations and policies leave out", () => {
    fc.assert(
      fc.property(pod, world, (pod, world) => {
        const wishes = parseWishes(annotationsOf(pod));
        const { decision } = admit(aRequest(pod), factsOf(world));

        for (const { slot, pullPolicy, nodes } of decision.slots) {
          if (wishes.selectsContainer(slot.name)) continue;
          assert.deepEqual([pullPolicy, nodes], [undefined, "None"]);
        }
        const wanted = decision.slots.filter(({ nodes }) => nodes !== "None");
        const labels = new Set(wanted.map(({ label }) => label));
        const { required, preferred } = decision.nodes;
        assert.ok([...required, ...preferred].every((label) => labels.has(label)));
      }),
    );
  });

  test("changes and refuses nothing for policies that only tell", () => {
    fc.assert(
      fc.property(pod, world, fc.constantFrom("Warn" as const, "Audit"), (pod, world, told) => {
        const policies = world.policies?.map((policy) => ({
          ...policy,
          spec: { ...policy.spec, enforcement: told },
        }));
        const { patch, decision } = admit(
          aRequest(pod),
          factsOf({ ...world, policies: policies ?? [] }),
        );

        assert.deepEqual(patch, admit(aRequest(pod), factsOf({ ...world, policies: [] })).patch);
        assert.deepEqual(decision.refusals, []);
      }),
    );
  });

  test("changes nothing of a pod that is there but its new containers' pull policies", () => {
    const path = /^\/spec\/ephemeralContainers\/\d+\/imagePullPolicy$/;
    fc.assert(
      fc.property(pod, world, fc.array(container), (oldPod, world, added) => {
        const facts = factsOf(world);
        const updated = withContainer(oldPod, { name: "late", image: "r.io/app:1" });
        const debugged = { ...oldPod, spec: { ...specOf(oldPod), ephemeralContainers: added } };
        const update = aRequest(updated, { operation: "UPDATE", oldPod });
        const subresource = "ephemeralcontainers";
        const debug = aRequest(debugged, { operation: "UPDATE", subresource, oldPod });

        assert.deepEqual(admit(update, facts).patch, []);
        assert.ok(admit(debug, facts).patch.every((operation) => path.test(operation.path)));
      }),
    );
  });

  test("never throws, whatever stands anywhere in a pod", () => {
    const value = fc.oneof(
      fc.jsonValue({ maxDepth: 2 }),
      fc.constantFrom("text", 5, null, [], {}, [null], ["text"], [[]], [{}], { a: null }),
    );
    fc.assert(
      fc.property(pod, world, fc.nat(), value, (pod, world, at, value) => {
        const hostile = withReplaced(pod, at, value);
        const facts = factsOf(world);
        for (const subresource of ["", "ephemeralcontainers"]) {
          for (const operation of ["CREATE", "UPDATE"] as const) {
            const request = aRequest(hostile, { operation, subresource, oldPod: hostile });
            const decision = decidePod(request, facts);
            const patch = patchOf(request, decision);
            assert.ok(operation === "CREATE" || patch.length === 0);
          }
        }
        const { pod: patched } = admit(aRequest(hostile), facts);
        assert.ok(isWithin(hostile, patched));
        assert.deepEqual(admit(aRequest(patched), facts).patch, []);
      }),
      { numRuns: 300 },
    );
  });
});

function specOf({ spec }: JsonObject): JsonObject {
  return isJsonObject(spec) ? spec : {};
}

function annotationsOf({ metadata }: JsonObject): unknown {
  return isJsonObject(metadata) ? metadata["annotations"] : undefined;
}

function withContainer(pod: JsonObject, container: JsonObject): JsonObject {
  const spec = specOf(pod);
  const containers: readonly unknown[] = Array.isArray(spec["containers"])
    ? spec["containers"]
    : [];
  return { ...pod, spec: { ...spec, containers: [...containers, container] } };
}

function preferredTerms(pod: JsonObject): number {
  const { affinity } = specOf(pod);
  const { nodeAffinity } = isJsonObject(affinity) ? affinity : {};
  const { preferredDuringSchedulingIgnoredDuringExecution: terms } = isJsonObject(nodeAffinity)
    ? nodeAffinity
    : {};
  return Array.isArray(terms) ? terms.length : 0;
}

/** Whether all of a value is still there, in its place, but for pull policies and what is absent. */
function isWithin(before: unknown, after: unknown): boolean {
  if (Array.isArray(before)) {
    return Array.isArray(after) && before.every((element, at) => isWithin(element, after[at]));
  }
  if (before === null || before === undefined) return true;
  if (!isJsonObject(before)) return Object.is(before, after);
  if (!isJsonObject(after)) return false;
  const ours = ["imagePullPolicy", "pullPolicy", "image.stvz.io/injected"];
  return Object.entries(before).every(
    ([key, value]) => ours.includes(key) || isWithin(value, after[key]),
  );
}

/** Replaces the value at some place of a tree. */
function withReplaced(tree: JsonObject, at: number, value: unknown): JsonObject {
  const count = countOf(tree);
  let left = at % Math.max(1, count - 1);

  function replaced(part: unknown): unknown {
    if (left-- === -1) return value;
    if (Array.isArray(part)) return part.map(replaced);
    if (!isJsonObject(part)) return part;
    return Object.fromEntries(Object.entries(part).map(([key, each]) => [key, replaced(each)]));
  }
  const result = replaced(tree);
  return isJsonObject(result) ? result : {};
}

function countOf(part: unknown): number {
  const parts = Array.isArray(part) ? part : isJsonObject(part) ? Object.values(part) : [];
  return parts.reduce<number>((sum, each) => sum + countOf(each), 1);
}
