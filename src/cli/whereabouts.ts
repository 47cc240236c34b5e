import type { NodeFact, PodFacts } from "#admission/pods/model.ts";
import { heldAs } from "#admission/pods/slots.ts";
import type { Node } from "#kube/types.ts";

/** What explanations are made from: what decisions are, and the nodes by name. */
export interface ClusterView {
  readonly facts: PodFacts & {
    /** Names the ready nodes, taking pods, that hold the image with this label, in order. */
    nodesHolding(label: string): string[];
  };
  readonly nodes: readonly Node[];
}

/** Where an image is that somebody asked Coral to keep on nodes. */
export interface Whereabouts {
  /** The label of nodes that says so. */
  readonly label: string;
  /** How many nodes are to hold it. */
  readonly plannedNodes: number;
  /** How many hold it, are ready and take pods. */
  readonly availableNodes: number;
  /** Which these are; none if its Images have no labels on nodes. */
  readonly available: readonly string[];
  /** How many of these take this pod, by its node selector, affinity and tolerations. */
  readonly fitting: number;
  /** Nodes that hold it, and are not ready or take no pods. */
  readonly away: readonly string[];
  readonly pending: readonly string[];
  readonly error: readonly string[];
}

/**
 * Says where an image is; `undefined` if nobody asked for it to be on nodes.
 *
 * @param options.fits - whether the pod may go to a node.
 */
export function whereIs(
  reference: string,
  { facts, nodes }: ClusterView,
  options: { namespace: string; fits: (node: NodeFact) => boolean },
): Whereabouts | undefined {
  const image = facts.image(heldAs(reference), options.namespace);
  if (!image) return undefined;
  const { label, plannedNodes, availableNodes } = image;
  const available = facts.nodesHolding(label);
  const labelled = (state: string): string[] =>
    nodes
      .filter(({ metadata }) => metadata.labels?.[label] === state)
      .map(({ metadata }) => metadata.name)
      .toSorted();
  return {
    label,
    plannedNodes,
    availableNodes,
    available,
    fitting: facts.countHolding([label], options.fits, Infinity),
    away: labelled("available").filter((name) => !available.includes(name)),
    pending: labelled("pending"),
    error: labelled("error"),
  };
}
