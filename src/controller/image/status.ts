import { setCondition } from "#api/v1/conditions.ts";
import type { Image, ImageStatus } from "#api/v1/image.ts";
import { referenceLabel } from "#oci/reference.ts";
import type { Condition } from "#kube/types.ts";
import type { Planned } from "./plan.ts";
import type { Failure, ImageCounts } from "./tally.ts";

/** What a status is made of. */
export interface StatusFacts {
  readonly planned: Planned;
  readonly counts: ImageCounts;
  /** Creation of the oldest node that lacks an image, in milliseconds since 1970. */
  readonly oldestLateMs: number | undefined;
  /** A node younger than this may still be filling without the Image ceasing to be Ready. */
  readonly newNodeGraceMs: number;
  readonly now: Date;
}

/** A condition without the part that depends on what stood there before. */
type Finding = Pick<Condition, "type" | "status" | "reason" | "message">;

/** A list in a message names so many and counts the rest. */
const maxNamed = 3;

/**
 * Makes an Image's status. It keeps what does not change, so that an equal status means that nothing
 * is to be written.
 */
export function statusOf(image: Image, facts: StatusFacts): ImageStatus {
  const { counts, now } = facts;
  const observedGeneration = image.metadata.generation ?? 0;
  const references = counts.references.map(({ reference, lastFailure, ...numbers }) => ({
    reference,
    label: referenceLabel(reference),
    ...numbers,
    ...(lastFailure && { lastError: lastErrorOf(lastFailure) }),
  }));
  return {
    observedGeneration,
    totalNodes: counts.totalNodes,
    totalImages: references.length,
    condition: counts.nodes,
    data: references.map(({ reference, label }) => ({ name: reference, label })),
    images: references,
    conditions: conditionsOf(image, facts).reduce<readonly Condition[]>(
      (conditions, finding) => setCondition(conditions, { ...finding, observedGeneration }, now),
      keptConditions(image, facts),
    ),
  };
}

/** In how many milliseconds a status may differ by the passage of time alone; `undefined`: never. */
export function changesInMs(status: ImageStatus, facts: StatusFacts): number | undefined {
  const { oldestLateMs, newNodeGraceMs, now } = facts;
  const isReady = status.conditions?.some(
    ({ type, status: is }) => type === "Ready" && is === "True",
  );
  if (!isReady || oldestLateMs === undefined) return undefined;
  return Math.max(1_000, oldestLateMs + newNodeGraceMs - now.getTime());
}

function conditionsOf(image: Image, facts: StatusFacts): Finding[] {
  const { planned, counts } = facts;
  const findings = [readyOf(image, facts), progressingOf(counts)];
  const { referenceProblems, selectorProblems } = planned;
  if (referenceProblems.length > 0) {
    const texts = referenceProblems.map(
      ({ path, value, message }) => `${path}: ${JSON.stringify(value)} ${message}`,
    );
    findings.push(problem("ReferencesValid", "InvalidReferences", texts));
  }
  if (selectorProblems.length > 0) {
    const texts = selectorProblems.map((text) => `spec.selector${text}`);
    findings.push(problem("SelectorValid", "InvalidSelector", texts));
  }
  const ignored = ignoredFields(image);
  if (ignored.length > 0) {
    findings.push(problem("FieldsSupported", "NotSupportedYet", ignored));
  }
  if (counts.excludedNodes > 0) {
    const message = `${counts.excludedNodes} selected nodes are being deleted or do not run Linux`;
    findings.push({ type: "NodesExcluded", status: "True", reason: "NoAgent", message });
  }
  return findings;
}

/** Conditions of earlier statuses that still apply, and those of other writers. */
function keptConditions(image: Image, { planned, counts }: StatusFacts): readonly Condition[] {
  const gone = new Set<string>();
  if (planned.referenceProblems.length === 0) gone.add("ReferencesValid");
  if (planned.selectorProblems.length === 0) gone.add("SelectorValid");
  if (counts.excludedNodes === 0) gone.add("NodesExcluded");
  if (ignoredFields(image).length === 0) gone.add("FieldsSupported");
  return (image.status?.conditions ?? []).filter(({ type }) => !gone.has(type));
}

/** What the spec asks for in vain: nobody should wait for it without being told. */
function ignoredFields({ spec }: Image): string[] {
  const texts: string[] = [];
  if (spec.imagePullPolicy === "Always") texts.push('spec.imagePullPolicy: "Always"');
  if (spec.imagePullSecrets.length > 0) texts.push("spec.imagePullSecrets");
  if (spec.maxConcurrentNodes !== undefined) texts.push("spec.maxConcurrentNodes");
  return texts.map((text) => `${text} has no effect yet`);
}

function readyOf(image: Image, { planned, counts, ...facts }: StatusFacts): Finding {
  const { nodes, totalNodes, references } = counts;
  const message = `${nodes.available} of ${totalNodes} nodes hold every image`;
  const no = (reason: string, text = message): Finding => ({
    type: "Ready",
    status: "False",
    reason,
    message: text,
  });
  if (planned.referenceProblems.length > 0) {
    return no(
      "InvalidReferences",
      `${message}; ${planned.referenceProblems.length} names are not valid`,
    );
  }
  if (planned.selectorProblems.length > 0) return no("InvalidSelector");
  if (references.length === 0) return no("NoImages", "The Image names no image");
  if (totalNodes === 0) return no("NoNodesMatch", "No node fulfils the selector");
  if (nodes.available === totalNodes) {
    return { type: "Ready", status: "True", reason: "AllNodesHoldImages", message };
  }
  if (nodes.error > 0) return no("NodesFailing", `${message}; ${nodes.error} have errors`);
  if (isOnlyFilling(image, facts)) {
    return { type: "Ready", status: "True", reason: "NewNodesFilling", message };
  }
  if (nodes.pending > 0) return no("NodesPulling");
  return no("NodesUnknown", `${message}; nothing is heard from ${nodes.unknown}`);
}

/** Whether an Image that was Ready lacks nothing but what new nodes have not pulled yet. */
function isOnlyFilling(
  { metadata, status }: Image,
  { oldestLateMs = -Infinity, newNodeGraceMs, now }: Omit<StatusFacts, "planned" | "counts">,
): boolean {
  const wasReady = status?.conditions?.some(
    ({ type, status: is, observedGeneration }) =>
      type === "Ready" && is === "True" && observedGeneration === metadata.generation,
  );
  return wasReady === true && now.getTime() - oldestLateMs < newNodeGraceMs;
}

function progressingOf({ nodes, totalNodes, references }: ImageCounts): Finding {
  const left = nodes.pending;
  const common = { type: "Progressing", message: `${left} of ${totalNodes} nodes are pulling` };
  if (left > 0 && references.length > 0) {
    return { ...common, status: "True", reason: "NodesPulling" };
  }
  return { ...common, status: "False", reason: "NothingToPull" };
}

function problem(type: string, reason: string, texts: readonly string[]): Finding {
  const named = texts.slice(0, maxNamed).join("; ");
  const rest = texts.length - maxNamed;
  const message = rest > 0 ? `${named}; and ${rest} more` : named;
  return { type, status: "False", reason, message: message.slice(0, 1_024) };
}

function lastErrorOf({
  node,
  image,
}: Failure): NonNullable<NonNullable<ImageStatus["images"]>[number]["lastError"]> {
  const { reason = "Unknown", message = "", since } = image;
  return { node, reason, message, time: since };
}
