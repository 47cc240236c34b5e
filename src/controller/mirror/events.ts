import type { MirrorStatus } from "#api/v1/mirror.ts";
import type { Happening } from "#controller/happening.ts";
import type { Condition } from "#kube/types.ts";

/** Failures of one status that get an event of their own. */
const maxFailures = 5;

/** What was being done when a condition came up that somebody should look at. */
const problemActions: Readonly<Record<string, string>> = {
  Stalled: "PlanCopies",
  SecretsFound: "ReadSecret",
  DeleteUnsupported: "RemoveCopies",
};

/**
 * Works out the events of a status that takes the place of another: of tags that came to fail, of conditions
 * that came up, of copies that were removed, and of being in step after something was copied. As it looks only
 * at what is stored, a new leader repeats nothing.
 */
export function happeningsOf(previous: MirrorStatus | undefined, next: MirrorStatus): Happening[] {
  return [
    ...failuresOf(previous, next),
    ...problemsOf(previous, next),
    ...removalsOf(previous, next),
    ...syncsOf(previous, next),
  ];
}

function failuresOf(previous: MirrorStatus | undefined, next: MirrorStatus): Happening[] {
  const before = new Map(previous?.failures?.map(({ reference, reason }) => [reference, reason]));
  const news = (next.failures ?? []).filter(
    ({ reference, reason }) => before.get(reference) !== reason,
  );
  return news.slice(0, maxFailures).map(({ reference, reason, message }) => ({
    type: "Warning",
    reason: "CopyFailed",
    action: "CopyImage",
    note: `Cannot copy ${reference}: ${reason}: ${message}`,
    subject: reference,
  }));
}

function problemsOf(previous: MirrorStatus | undefined, next: MirrorStatus): Happening[] {
  return (next.conditions ?? []).flatMap(({ type, status, reason, message }) => {
    const action = problemActions[type];
    if (action === undefined) return [];
    const before = conditionOf(previous, type);
    if (before?.status === status && before.reason === reason) return [];
    return [{ type: "Warning", reason, action, note: message }] as const;
  });
}

function removalsOf(previous: MirrorStatus | undefined, next: MirrorStatus): Happening[] {
  const count = (next.removed ?? 0) - (previous?.removed ?? 0);
  if (count <= 0) return [];
  const note = `Removed ${count} copies that nobody asks for any more`;
  return [{ type: "Normal", reason: "Removed", action: "RemoveCopies", note }];
}

/** A pass that copied nothing is not told of. */
function syncsOf(previous: MirrorStatus | undefined, next: MirrorStatus): Happening[] {
  if (!isReady(next)) return [];
  const bytes = next.bytesCopied - (previous?.bytesCopied ?? 0);
  if (isReady(previous) && bytes <= 0) return [];
  const note = `${next.synced} of ${next.tags} tags are right, ${next.bytesCopied} bytes copied so far`;
  return [{ type: "Normal", reason: "Synced", action: "CopyImages", note }];
}

function isReady(status: MirrorStatus | undefined): boolean {
  return conditionOf(status, "Ready")?.status === "True";
}

function conditionOf(status: MirrorStatus | undefined, type: string): Condition | undefined {
  return status?.conditions?.find((condition) => condition.type === type);
}
