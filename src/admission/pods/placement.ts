import { isJsonObject, textOf, type JsonObject } from "#json/json.ts";
import { canRequire } from "./affinity-patch.ts";
import { fitsOf } from "./fits.ts";
import type { NodeFact, PodFacts, ReadyPolicy } from "./model.ts";
import { listOf, requiredLabelsOf } from "./node-affinity.ts";
import { nameOf, type Author } from "./want.ts";

/** What is wanted of where a pod goes, because of one image. */
export interface PlaceWant {
  /** Of the nodes that hold the image. */
  readonly label: string;
  readonly to: "Preferred" | "Required";
  readonly by: Author;
}

/** Where a pod goes. */
export interface Placement {
  /** Labels that are `available` on each node it may go to, as somebody wants it. */
  readonly required: ReadonlySet<string>;
  /** Labels that are `available` on the nodes it had better go to. */
  readonly preferred: ReadonlySet<string>;
  /** Why a policy gets less than it requires, by policy. */
  readonly lowered: ReadonlyMap<ReadyPolicy, string>;
  /** Why the pod's nodes are not touched at all. */
  readonly untouched: string | undefined;
  readonly warnings: readonly string[];
}

/**
 * Decides where a new pod goes, once for all of its images.
 *
 * What its author requires is obeyed, and may have it wait. What a policy requires is only preferred while
 * too few of the nodes that fit the pod hold all images of which somebody requires it.
 */
export function placementOf(
  pod: JsonObject,
  wants: readonly PlaceWant[],
  facts: PodFacts,
): Placement {
  if (wants.length === 0) return nowhere;
  const untouched = untouchedReason(pod, new Set(wants.map(({ label }) => label)).size);
  if (untouched !== undefined) return { ...nowhere, untouched };
  const required = wants.filter(({ to }) => to === "Required");
  const labels = [...new Set(required.map(({ label }) => label))];

  const fits = fitsOf(pod, new Set(labels));
  const policies = new Set(required.flatMap(({ by }) => (by === "annotation" ? [] : [by])));
  const lowered = loweredPolicies(policies, labels, fits, facts);
  const stays = required.filter(({ by }) => by === "annotation" || !lowered.has(by));
  const kept = new Set(stays.map(({ label }) => label));
  const already = requiredLabelsOf(pod);
  const others = wants.filter(({ label }) => !kept.has(label) && !already.has(label));
  const byAuthor = required.filter(({ by }) => by === "annotation").map(({ label }) => label);
  return {
    required: kept,
    preferred: new Set(others.map(({ label }) => label)),
    lowered,
    untouched,
    warnings: waitWarnings([...new Set(byAuthor)], fits, facts),
  };
}

const nowhere: Placement = {
  required: new Set(),
  preferred: new Set(),
  lowered: new Map(),
  untouched: undefined,
  warnings: [],
};

/** Why where a pod goes is not for Coral to say. */
function untouchedReason(pod: JsonObject, labels: number): string | undefined {
  const spec = isJsonObject(pod["spec"]) ? pod["spec"] : {};
  if (textOf(spec["nodeName"]) !== "") return "the pod says itself on which node it runs";
  if (isOfDaemonSet(pod)) return "its DaemonSet has chosen the node";
  if (!canRequire(pod, labels)) return "the pod's affinity has too many terms to change";
  return undefined;
}

function isOfDaemonSet({ metadata }: JsonObject): boolean {
  const owners = isJsonObject(metadata) ? listOf(metadata["ownerReferences"]) : [];
  return owners.some(
    (owner) => isJsonObject(owner) && owner["controller"] === true && owner["kind"] === "DaemonSet",
  );
}

function loweredPolicies(
  policies: ReadonlySet<ReadyPolicy>,
  labels: readonly string[],
  fits: (node: NodeFact) => boolean,
  facts: PodFacts,
): Map<ReadyPolicy, string> {
  const lowered = new Map<ReadyPolicy, string>();
  if (policies.size === 0) return lowered;
  const needs = new Map([...policies].map((policy) => [policy, needOf(policy, fits, facts)]));
  const holding = facts.countHolding(labels, fits, Math.max(...needs.values()));
  for (const [policy, need] of needs) {
    if (holding >= need) continue;
    const found = `${holding} of the nodes that fit hold all images, and ${need} must`;
    lowered.set(policy, `${nameOf(policy)} only prefers nodes that hold it: ${found}`);
  }
  return lowered;
}

/** How many nodes must hold all images before a policy may require it. */
function needOf(
  { minNodes }: ReadyPolicy,
  fits: (node: NodeFact) => boolean,
  facts: PodFacts,
): number {
  if ("count" in minNodes) return Math.max(1, minNodes.count);
  // Less what a share like 0.07 is too much by, in binary.
  return Math.max(1, Math.ceil(minNodes.share * facts.countFitting(fits, Infinity) - 1e-9));
}

function waitWarnings(
  labels: readonly string[],
  fits: (node: NodeFact) => boolean,
  facts: PodFacts,
): string[] {
  if (labels.length === 0 || facts.countHolding(labels, fits, 1) > 0) return [];
  return [
    'annotation image.stvz.io/inject: no node that fits holds all images that "selectors" is about, and the pod waits until one does',
  ];
}
