import type { ReportedImage } from "#api/v1/node-report.ts";
import { isRemark, type Remark } from "#api/v1/remarks.ts";
import type { Failure, Findings, Remarked } from "./counts.ts";
import { reportedIn } from "./reported-images.ts";

/** A node and its report, in the order of the references. */
export interface ReportingNode {
  readonly name: string;
  readonly report: readonly ReportedImage[];
}

/**
 * Knows which living nodes have a failed pull of an image of one Image, or remark something. There
 * are few, as a rule, and only these are looked through.
 */
export class NodeFindings {
  /** By the place of the reference. */
  readonly #failing = new Map<number, Set<ReportingNode>>();
  readonly #remarking = new Map<number, Set<ReportingNode>>();
  /** What was found last, until one of the nodes reports something else. */
  readonly #found = new Map<number, Findings>();

  /** Adds what a node reports of the reference at a place, or with -1 takes it away. */
  add(place: number, node: ReportingNode, reported: ReportedImage, by: 1 | -1): void {
    this.#found.delete(place);
    if (hasFailed(reported)) mark(this.#failing, place, node, by);
    if (isRemark(reported.reason)) mark(this.#remarking, place, node, by);
  }

  /** What the nodes tell of the reference at a place. */
  of(place: number, reference: string): Findings {
    const known = this.#found.get(place);
    if (known) return known;
    const lastFailure = lastOf(reference, this.#failing.get(place));
    const remarked = remarkedOf(reference, this.#remarking.get(place));
    const found = { ...(lastFailure && { lastFailure }), ...(remarked && { remarked }) };
    this.#found.set(place, found);
    return found;
  }
}

function mark(
  marked: Map<number, Set<ReportingNode>>,
  place: number,
  node: ReportingNode,
  by: 1 | -1,
): void {
  const nodes = marked.get(place) ?? new Set();
  if (by === 1) marked.set(place, nodes.add(node));
  else nodes.delete(node);
  if (nodes.size === 0) marked.delete(place);
}

/** A pull that failed, be it tried again or not. A pull that merely waits gives a reason too. */
function hasFailed({ state, attempts = 0 }: ReportedImage): boolean {
  return state !== "available" && attempts > 0;
}

function lastOf(
  reference: string,
  nodes: ReadonlySet<ReportingNode> = new Set(),
): Failure | undefined {
  let last: Failure | undefined;
  for (const { name, report } of nodes) {
    const image = reportedIn(report, reference);
    if (!image || !hasFailed(image)) continue;
    // Of two at the same time, the one of the first node by name: the answer must not depend on
    // the order in which reports came.
    const isLater =
      !last ||
      image.since > last.image.since ||
      (image.since === last.image.since && name < last.node);
    if (isLater) last = { node: name, image };
  }
  return last;
}

function remarkedOf(
  reference: string,
  nodes: ReadonlySet<ReportingNode> | undefined,
): ReadonlyMap<Remark, Remarked[]> | undefined {
  if (!nodes) return undefined;
  const found = new Map<Remark, Remarked[]>();
  for (const { name, report } of nodes) {
    const { reason, digest } = reportedIn(report, reference) ?? {};
    if (!isRemark(reason)) continue;
    const list = found.get(reason) ?? [];
    list.push({ node: name, ...(digest !== undefined && { digest }) });
    found.set(reason, list);
  }
  return found;
}
