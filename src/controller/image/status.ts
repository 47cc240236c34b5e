import { setCondition } from "#api/v1/conditions.ts";
import type { ImagePlanSpec } from "#api/v1/image-plan.ts";
import type { Image, ImageStatus } from "#api/v1/image.ts";
import type { Remark } from "#api/v1/remarks.ts";
import { referenceLabel } from "#oci/reference.ts";
import type { Condition } from "#kube/types.ts";
import type { SecretProblem } from "#secrets/secret-watch.ts";
import type { Failure, ImageCounts, ReferenceCounts } from "./counts.ts";
import type { LookupProblem } from "./lookups.ts";
import type { Planned } from "./plan.ts";

/** What a status is made of. */
export interface StatusFacts {
  readonly planned: Planned;
  readonly counts: ImageCounts;
  /** Whether registries are being asked what the Image's tags name. */
  readonly isResolving: boolean;
  /** What registries did not tell of references, and of lists of tags. */
  readonly lookupProblems: { images: readonly LookupProblem[]; lists: readonly LookupProblem[] };
  /** What is wrong with Secrets that the Image names. */
  readonly secretProblems: readonly SecretProblem[];
  /** Creation of the oldest node that lacks an image, in milliseconds since 1970. */
  readonly oldestLateMs: number | undefined;
  /** A node younger than this may still be filling without the Image ceasing to be Ready. */
  readonly newNodeGraceMs: number;
  readonly now: Date;
}

/** A condition without the part that depends on what stood there before. */
type Finding = Pick<Condition, "type" | "status" | "reason" | "message">;

/**
 * All texts of failures together. etcd takes objects of up to 1.5 MiB, names of 500 images take half of
 * that, and a character may become six bytes there.
 */
const maxAllMessagesChars = 64_000;

/** A list in a message names so many and counts the rest. */
const maxNamed = 3;

/**
 * Makes an Image's status. It keeps what does not change, so that an equal status means that nothing
 * is to be written.
 */
export function statusOf(image: Image, facts: StatusFacts): ImageStatus {
  const { planned, counts, now } = facts;
  const observedGeneration = image.metadata.generation ?? 0;
  const { pullSecretsRevision, images: plannedImages } = planned.spec;
  const found = new Map(plannedImages.map((planned) => [planned.reference, planned]));
  const failing = counts.references.filter(({ lastFailure }) => lastFailure).length;
  const messageChars = Math.floor(maxAllMessagesChars / Math.max(failing, 1));
  const references = counts.references.map((counted) =>
    imageStatusOf(counted, found.get(counted.reference), messageChars),
  );
  return {
    observedGeneration,
    ready: `${counts.nodes.available}/${counts.totalNodes}`,
    totalNodes: counts.totalNodes,
    totalImages: references.length,
    condition: counts.nodes,
    data: references.map(({ reference, label }) => ({ name: reference, label })),
    images: references,
    ...(pullSecretsRevision !== undefined && { pullSecretsRevision }),
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

function imageStatusOf(
  { reference, lastFailure, remarked, ...numbers }: ReferenceCounts,
  { digest, sizes = [] }: Partial<ImagePlanSpec["images"][number]> = {},
  messageChars: number,
): NonNullable<ImageStatus["images"]>[number] {
  const otherDigest = remarked?.get("TagMoved")?.length ?? 0;
  return {
    reference,
    ...(digest !== undefined && { digest }),
    label: referenceLabel(reference),
    ...(sizes.length > 0 && { sizeBytes: Math.max(...sizes.map(({ sizeBytes }) => sizeBytes)) }),
    ...numbers,
    ...(otherDigest > 0 && { otherDigest }),
    ...(lastFailure && { lastError: lastErrorOf(lastFailure, messageChars) }),
  };
}

function conditionsOf(image: Image, facts: StatusFacts): Finding[] {
  return [readyOf(image, facts), progressingOf(facts.counts), ...problemsOf(facts)];
}

/** Conditions that only stand there while something is wrong. */
const problemTypes = [
  "ReferencesValid",
  "SelectorValid",
  "WithinQuota",
  "PullSecretsFound",
  "TagsListed",
  "ReferencesResolved",
  "DigestsAgree",
  "ImagesKept",
  "DiskSufficient",
  "NodesExcluded",
] as const;

function problemsOf({ planned, counts, lookupProblems, secretProblems }: StatusFacts): Finding[] {
  const findings: Finding[] = [];
  const tell = (
    type: (typeof problemTypes)[number],
    reason: string,
    texts: readonly string[],
  ): void => {
    if (texts.length > 0) findings.push(problem(type, reason, texts));
  };
  const { referenceProblems, selectorProblems, quotaProblems } = planned;
  tell(
    "ReferencesValid",
    "InvalidReferences",
    referenceProblems.map(({ path, value, message }) => `${path}: ${quoted(value)} ${message}`),
  );
  tell(
    "SelectorValid",
    "InvalidSelector",
    selectorProblems.map((text) => `spec.selector${text}`),
  );
  tell("WithinQuota", "QuotaExceeded", quotaProblems);
  tell(
    "PullSecretsFound",
    secretProblems[0]?.reason ?? "",
    secretProblems.map(({ name, message }) => `Secret ${quoted(name)} ${message}`),
  );
  const { lists, images } = lookupProblems;
  tell("TagsListed", lists[0]?.reason ?? "", lists.map(lookupText));
  tell("ReferencesResolved", images[0]?.reason ?? "", images.map(lookupText));
  tell("DigestsAgree", "TagMoved", remarks(counts, "TagMoved", "hold another digest of"));
  tell(
    "ImagesKept",
    "RemovedRepeatedly",
    remarks(counts, "RemovedRepeatedly", "lost again and again, as to the kubelet's cleaning up,"),
  );
  tell(
    "DiskSufficient",
    "InsufficientDisk",
    remarks(counts, "InsufficientDisk", "have too little free space for"),
  );
  if (counts.excludedNodes > 0) {
    const message = `${counts.excludedNodes} selected nodes are being deleted or do not run Linux`;
    findings.push({ type: "NodesExcluded", status: "True", reason: "NoAgent", message });
  }
  return findings;
}

function lookupText({ name, reason, message }: LookupProblem): string {
  return `${name}: ${reason}${message === "" ? "" : `: ${message}`}`;
}

function remarks({ references }: ImageCounts, remark: Remark, text: string): string[] {
  return references.flatMap(({ reference, remarked }) => {
    const nodes = remarked?.get(remark);
    return nodes ? `${nodes.length} nodes ${text} ${reference}` : [];
  });
}

/** Conditions of earlier statuses that still apply, and those of other writers. */
function keptConditions(image: Image, facts: StatusFacts): readonly Condition[] {
  const standing = new Set(problemsOf(facts).map(({ type }) => type));
  const gone = new Set<string>(problemTypes.filter((type) => !standing.has(type)));
  return (image.status?.conditions ?? []).filter(({ type }) => !gone.has(type));
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
  if (planned.quotaProblems.length > 0) {
    return no("QuotaExceeded", `${message}; ${planned.quotaProblems.length} are left out`);
  }
  if (planned.unlisted > 0) {
    const text = `${message}; the tags of ${planned.unlisted} repositories are not known yet`;
    return no("TagsNotListed", text);
  }
  if (references.length === 0) {
    const isListing = image.spec.repositories.some(({ listSelection }) => listSelection === "all");
    return isListing
      ? no("NoTags", "No tag of the registry passes the filter")
      : no("NoImages", "The Image names no image");
  }
  if (totalNodes === 0) return no("NoNodesMatch", "No node fulfils the selector");
  // A node may hold what a tag to follow named before.
  if (facts.isResolving && image.spec.imagePullPolicy === "Always") return no("TagsNotResolved");
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

function quoted(text: string): string {
  return JSON.stringify(text);
}

function problem(type: string, reason: string, texts: readonly string[]): Finding {
  const named = texts.slice(0, maxNamed).join("; ");
  const rest = texts.length - maxNamed;
  const message = rest > 0 ? `${named}; and ${rest} more` : named;
  return { type, status: "False", reason, message: message.slice(0, 1_024).toWellFormed() };
}

function lastErrorOf(
  { node, image }: Failure,
  maxChars: number,
): NonNullable<NonNullable<ImageStatus["images"]>[number]["lastError"]> {
  const { reason = "Unknown", message = "", since } = image;
  return { node, reason, message: message.slice(0, maxChars).toWellFormed(), time: since };
}
