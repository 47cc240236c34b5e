import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { ImagePolicy } from "#api/v1/image-policy.ts";
import type { Image } from "#api/v1/image.ts";
import { imageLabel } from "#api/v1/labels.ts";
import type { NodeFact } from "#admission/pods/model.ts";
import { formatKey, keyOf } from "#kube/key.ts";
import type { Change } from "#kube/object-cache.ts";
import type { KubeObject, Node, Pod } from "#kube/types.ts";
import { silentLog } from "#telemetry/log.ts";
import { anImage } from "#test/kinds.ts";
import { aNode, aPlan, aPolicy, ownPod } from "#test/pod-facts.ts";
import { ClusterFacts } from "./cluster-facts.ts";
import { fixedFeed, type Feed } from "./feed.ts";

const references = ["r.io/a:1", "r.io/b:1", "r.io/c:1", "r.io/d/e:2"];
const namespaces = ["one", "two"];

/** Objects that change, as an informer tells it. */
class World<T extends KubeObject> implements Feed<T> {
  readonly hasSynced = true;
  readonly objects = new Map<string, T>();
  #tell: (change: Change<T>) => void = () => {};

  get(key: string | { name: string; namespace?: string }): T | undefined {
    return this.objects.get(typeof key === "string" ? key : formatKey(key));
  }

  onChange(listener: (change: Change<T>) => void): Disposable {
    this.#tell = listener;
    return { [Symbol.dispose]() {} };
  }

  reread(): Feed<T> {
    return fixedFeed([...this.objects.values()]);
  }

  put(object: T): void {
    const key = formatKey(keyOf(object));
    const previous = this.objects.get(key);
    this.objects.set(key, object);
    if (previous) this.#tell({ type: "updated", key, object, previous });
    else this.#tell({ type: "added", key, object });
  }

  remove(object: T): void {
    const key = formatKey(keyOf(object));
    const previous = this.objects.get(key);
    if (!previous || !this.objects.delete(key)) return;
    this.#tell({ type: "deleted", key, object, previous });
  }
}

class Cluster {
  readonly policies = new World<ImagePolicy>();
  readonly plans = new World<ImagePlan>();
  readonly images = new World<Image>();
  readonly nodes = new World<Node>();
  readonly namespaces = new World<KubeObject>();
  readonly ownPods = new World<Pod>();

  facts(): ClusterFacts {
    const { policies, plans, images, nodes, namespaces, ownPods } = this;
    const feeds = { policies, plans, images, nodes, namespaces, ownPods };
    return new ClusterFacts({ ...common, ...feeds });
  }

  /** What would be known if everything were read anew. */
  anew(): ClusterFacts {
    const { policies, plans, images, nodes, namespaces, ownPods } = this;
    return new ClusterFacts({
      ...common,
      policies: policies.reread(),
      plans: plans.reread(),
      images: images.reread(),
      nodes: nodes.reread(),
      namespaces: namespaces.reread(),
      ownPods: ownPods.reread(),
    });
  }
}

const common = { ownNamespace: "coral-system", log: silentLog };

function fits({ labels, taints }: NodeFact): boolean {
  return labels["disk"] === "fast" && taints.length === 0;
}

/** All that can be asked, answered. */
function answers(facts: ClusterFacts): unknown {
  const labels = references.map(imageLabel);
  const pairs = labels.flatMap((one) => labels.map((other) => [one, other]));
  return {
    alwaysPulls: facts.alwaysPulls,
    policies: facts.policies.map(({ name, mode }) => [name, mode]),
    images: references.flatMap((reference) =>
      namespaces.map((namespace) => facts.image(reference, namespace)),
    ),
    holding: labels.map((label) => facts.nodesHolding(label)),
    holdingBoth: pairs.map((pair) => facts.countHolding(pair, () => true, Infinity)),
    holdingAndFitting: pairs.map((pair) => facts.countHolding(pair, fits, 2)),
    fitting: facts.countFitting(fits, Infinity),
    known: namespaces.map((namespace) => facts.namespaceLabels(namespace)),
  };
}

const reference = fc.constantFrom(...references);
const namespace = fc.constantFrom(...namespaces);

const aNodeOfAny = fc
  .record({
    name: fc.constantFrom("n1", "n2", "n3"),
    disk: fc.constantFrom("fast", "slow"),
    images: fc.dictionary(reference, fc.constantFrom("available", "pending", "error")),
    isReady: fc.boolean(),
    isCordoned: fc.boolean(),
    isTainted: fc.boolean(),
    isGoing: fc.boolean(),
  })
  .map(({ name, disk, images, isTainted, ...state }) =>
    aNode(name, images, { ...state, labels: { disk }, ...(isTainted && { taints: [aTaint] }) }),
  );
const aTaint = { key: "gpu", effect: "NoSchedule" };

const anyPlan = fc
  .record({
    name: fc.constantFrom("p", "q"),
    namespace,
    references: fc.uniqueArray(fc.oneof(reference, fc.constant("NOT a name"))),
    usesLogins: fc.boolean(),
  })
  .map(({ references, ...plan }) => aPlan(references, plan));

const anyImage = fc
  .record({
    name: fc.constantFrom("p", "q"),
    namespace,
    nodeLabels: fc.constantFrom("PerImage", "None"),
    available: fc.nat(5),
    pending: fc.nat(2),
    reference,
  })
  .map(({ name, namespace, nodeLabels, available, pending, reference }): Image => {
    const counts = { available, pending, error: 0, unknown: 0 };
    const status = {
      observedGeneration: 1,
      totalNodes: available + pending,
      totalImages: 1,
      condition: counts,
      images: [{ reference, label: "", ...counts }],
    };
    return { ...anImage({ nodeLabels }, { name, namespace }), status };
  });

const anyPolicy = fc
  .record({
    name: fc.constantFrom("x", "y", "z"),
    priority: fc.integer({ min: 0, max: 1 }),
    mode: fc.constantFrom("Off", "OptIn", "Force"),
    isBad: fc.boolean(),
  })
  .map(({ name, isBad, ...spec }) =>
    aPolicy(name, { ...spec, ...(isBad && { images: ["nginx"] }) }),
  );

const anyNamespace = namespace.map((name): KubeObject => ({
  metadata: { name, labels: { name } },
}));

const anyPod = fc
  .record({
    name: fc.constantFrom("a", "b"),
    policies: fc.array(fc.constantFrom("Always", "IfNotPresent", undefined), { maxLength: 2 }),
  })
  .map(({ name, policies }) => ownPod(name, policies));

/** Something that happens in a cluster. */
type Happening = (cluster: Cluster) => void;

function happening<T extends KubeObject>(
  any: fc.Arbitrary<T>,
  world: (cluster: Cluster) => World<T>,
): fc.Arbitrary<Happening> {
  return fc
    .record({ object: any, isGone: fc.boolean() })
    .map(({ object, isGone }) => (cluster: Cluster): void => {
      if (isGone) world(cluster).remove(object);
      else world(cluster).put(object);
    });
}

const happenings = fc.array(
  fc.oneof(
    happening(aNodeOfAny, ({ nodes }) => nodes),
    happening(anyPlan, ({ plans }) => plans),
    happening(anyImage, ({ images }) => images),
    happening(anyPolicy, ({ policies }) => policies),
    happening(anyNamespace, ({ namespaces }) => namespaces),
    happening(anyPod, ({ ownPods }) => ownPods),
  ),
  { maxLength: 40 },
);

describe("ClusterFacts, after any sequence of changes", () => {
  test("says what it would say if everything were read anew", () => {
    const property = fc.property(happenings, (happenings) => {
      const cluster = new Cluster();
      using facts = cluster.facts();
      for (const happen of happenings) happen(cluster);
      using anew = cluster.anew();
      assert.deepEqual(answers(facts), answers(anew));
    });
    fc.assert(property, { numRuns: 300 });
  });

  test("counts nodes as one who looks at each of them does", () => {
    const wanted = fc.uniqueArray(reference);
    const property = fc.property(happenings, wanted, (happenings, wanted) => {
      const cluster = new Cluster();
      using facts = cluster.facts();
      for (const happen of happenings) happen(cluster);
      const labels = wanted.map(imageLabel);
      const holding = [...cluster.nodes.objects.values()].filter(
        ({ metadata, spec, status }) =>
          !metadata.deletionTimestamp &&
          !spec?.unschedulable &&
          status?.conditions?.some(({ type, status: is }) => type === "Ready" && is === "True") &&
          labels.every((label) => metadata.labels?.[label] === "available"),
      );
      assert.equal(
        facts.countHolding(labels, () => true, Infinity),
        holding.length,
      );
      assert.equal(
        facts.countHolding(labels, () => true, 1),
        Math.min(holding.length, 1),
      );
    });
    fc.assert(property, { numRuns: 300 });
  });
});
