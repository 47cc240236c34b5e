import { imageLabel } from "#api/v1/labels.ts";
import type { JsonObject } from "#json/json.ts";
import { fitsOf } from "./fits.ts";
import type { PodDecision, PodFacts, PodRequest, SlotDecision } from "./model.ts";
import { requiredLabelsOf } from "./node-affinity.ts";
import { placementOf, type Placement, type PlaceWant } from "./placement.ts";
import { pullDecisionOf, type PullScene } from "./pull-policy.ts";
import { heldAs, placeOf } from "./slots.ts";
import { nameOf, originOf, type Want } from "./want.ts";

/** What comes of what is wanted. */
export type Resolution = Pick<PodDecision, "slots" | "nodes" | "refusals" | "warnings">;

/** Decides what comes of what is wanted of the images of a pod. */
export function resolve(request: PodRequest, all: readonly Want[], facts: PodFacts): Resolution {
  const wants = all.map((want) => allowedWant(request, want));
  const placeWants = wants.map(placeWantOf);
  const placement = placementOf(
    request.pod,
    placeWants.filter((want) => want !== undefined),
    facts,
  );
  const scene = pullSceneOf(request.pod, placement, facts);

  const resolved = wants.map((want, index) => {
    const pull = pullDecisionOf(want, scene);
    const place = nodesOf(want, placeWants[index], placement);
    const slot: SlotDecision = {
      slot: want.slot,
      origin: want.decider && originOf(want.decider),
      pullPolicy: pull.pullPolicy,
      nodes: place.nodes,
      label: place.nodes === "None" ? undefined : placeWants[index]?.label,
      refusal: refusalOf(want),
      reasons: [...want.reasons, ...place.reasons, ...pull.reasons],
    };
    return { slot, warnings: [...place.warnings, ...pull.warnings] };
  });

  const slots = resolved.map(({ slot }) => slot);
  return {
    slots,
    nodes: { required: [...placement.required], preferred: [...placement.preferred] },
    refusals: slots.flatMap(({ refusal }) => refusal ?? []),
    warnings: [...placement.warnings, ...resolved.flatMap(({ warnings }) => warnings)],
  };
}

/** Of a pod that is there, the API server lets nobody change where it goes, nor when its images are pulled. */
function allowedWant({ operation, subresource }: PodRequest, want: Want): Want {
  if (operation === "CREATE") return want;
  const pullPolicy = subresource === "" ? undefined : want.pullPolicy;
  return { ...want, nodes: undefined, pullPolicy };
}

/** A policy wants nodes only for what is kept on nodes; an author may ask for what is yet to come. */
function placeWantOf({ slot, fact, nodes }: Want): PlaceWant | undefined {
  if (!nodes || slot.reference === undefined) return undefined;
  if (!fact && nodes.by !== "annotation") return undefined;
  return { ...nodes, label: fact?.label ?? imageLabel(heldAs(slot.reference)) };
}

function nodesOf(
  want: Want,
  placeWant: PlaceWant | undefined,
  { required, preferred, lowered, untouched }: Placement,
): Pick<SlotDecision, "nodes" | "reasons"> & { warnings: string[] } {
  if (!want.nodes) return { nodes: "None", reasons: [], warnings: [] };
  const { by } = want.nodes;
  if (!placeWant) {
    const reason = "no Image asks for it, so it has no say in where the pod goes";
    return { nodes: "None", reasons: [reason], warnings: [] };
  }
  if (untouched !== undefined) {
    const warnings = by === "annotation" ? [`${placeOf(want.slot)}: ${untouched}`] : [];
    return { nodes: "None", reasons: [untouched], warnings };
  }
  const reason = by === "annotation" ? undefined : lowered.get(by);
  const reasons = reason === undefined ? [] : [reason];
  if (required.has(placeWant.label)) {
    reasons.push(`${nameOf(by)} binds the pod to nodes that hold it`);
    return { nodes: "Required", reasons, warnings: [] };
  }
  if (preferred.has(placeWant.label)) {
    reasons.push(`${nameOf(by)} prefers nodes that hold it`);
    return { nodes: "Preferred", reasons, warnings: [] };
  }
  reasons.push("the pod goes only to nodes that hold it already");
  return { nodes: "None", reasons, warnings: [] };
}

function pullSceneOf(pod: JsonObject, { required }: Placement, facts: PodFacts): PullScene {
  const fits = fitsOf(pod);
  const bound = required.union(requiredLabelsOf(pod));
  const counts = new Map<string, number>();

  /** Where the pod may go, all that is required is held: one count is for all of these. */
  function countHolding(label: string): number {
    const key = required.has(label) ? "" : label;
    const labels = key === "" ? [...required] : [...required, label];
    const count = counts.get(key) ?? facts.countHolding(labels, fits, 1);
    counts.set(key, count);
    return count;
  }

  return {
    alwaysPulls: facts.alwaysPulls,
    isHeld: ({ label, availableNodes }) => {
      if (availableNodes === 0 || countHolding(label) > 0) return availableNodes > 0;
      // An Image may forgo labels: all that is known then is how many nodes hold it.
      return facts.countHolding([label], anyNode, 1) === 0;
    },
    isBound: ({ label }) => bound.has(label),
  };
}

function anyNode(): boolean {
  return true;
}

function refusalOf({ slot, fact, guard }: Want): string | undefined {
  if (!guard || slot.image === "" || (fact && fact.availableNodes > 0)) return undefined;
  const begin = `${placeOf(slot)}: image ${JSON.stringify(shortened(slot.reference ?? slot.image))}`;
  const end = `(${nameOf(guard)} lets in only what a node holds)`;
  if (slot.reference === undefined)
    return `${begin} is no image name that a node could hold ${end}`;
  if (!fact) {
    return `${begin} is on no node; ask for it with an Image, and wait until it is there: kubectl get images -A ${end}`;
  }
  const missing =
    fact.plannedNodes === 0
      ? "is on no node yet"
      : `is on none yet of the ${fact.plannedNodes} nodes that are to hold it`;
  return `${begin} ${missing}; wait for it: kubectl get images -A ${end}`;
}

function shortened(image: string): string {
  return image.length > 200 ? `${image.slice(0, 200)}…` : image;
}
