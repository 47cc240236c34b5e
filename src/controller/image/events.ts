import type { ImageStatus } from "#api/v1/image.ts";
import type { Happening } from "#controller/happening.ts";
import type { Condition } from "#kube/types.ts";

/** Failed images of one status that get an event of their own. The status has them all. */
const maxFailures = 5;

const problemActions: Readonly<Record<string, string>> = {
  PullSecretsFound: "ReadSecret",
  TagsListed: "ListTags",
  ReferencesResolved: "ResolveReference",
  DigestsAgree: "CompareDigest",
  ImagesKept: "KeepImage",
  DiskSufficient: "PullImage",
};

/**
 * Works out the events of a status that takes the place of another: of images that came to fail on a
 * node, of conditions that came to be wrong, and of becoming Ready. As it looks only at what is stored,
 * a new leader repeats nothing.
 */
export function happeningsOf(previous: ImageStatus | undefined, next: ImageStatus): Happening[] {
  return [
    ...failuresOf(previous, next).slice(0, maxFailures),
    ...problemsOf(previous, next),
    ...readinessOf(previous, next),
  ];
}

function failuresOf(previous: ImageStatus | undefined, next: ImageStatus): Happening[] {
  const before = new Map(previous?.images?.map((image) => [image.reference, image]));
  return (next.images ?? []).flatMap(({ reference, error, lastError }) => {
    const known = before.get(reference);
    const isNews = error > 0 && ((known?.error ?? 0) === 0 || isOther(known, lastError));
    if (!isNews || !lastError) return [];
    const { node, reason, message } = lastError;
    const note = `Cannot pull ${reference} on ${error} nodes, last on ${node}: ${reason}: ${message}`;
    const subject = reference;
    return [{ type: "Warning", reason: "PullFailed", action: "PullImage", note, subject }] as const;
  });
}

type ImageState = NonNullable<ImageStatus["images"]>[number];

function isOther(known: ImageState | undefined, lastError: ImageState["lastError"]): boolean {
  return lastError !== undefined && known?.lastError?.reason !== lastError.reason;
}

function problemsOf(previous: ImageStatus | undefined, next: ImageStatus): Happening[] {
  return (next.conditions ?? []).flatMap(({ type, status, reason, message }) => {
    const action = problemActions[type];
    if (action === undefined || status !== "False") return [];
    const before = previous?.conditions?.find((condition) => condition.type === type);
    if (before?.status === "False" && before.reason === reason) return [];
    return [{ type: "Warning", reason, action, note: message }] as const;
  });
}

function readinessOf(previous: ImageStatus | undefined, next: ImageStatus): Happening[] {
  const now = readyIn(next);
  if (now?.status !== "True" || readyIn(previous)?.status === "True") return [];
  return [{ type: "Normal", reason: "Ready", action: "PullImage", note: now.message }];
}

function readyIn(status: ImageStatus | undefined): Condition | undefined {
  return status?.conditions?.find(({ type }) => type === "Ready");
}
