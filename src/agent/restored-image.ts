import type { ReportedImage } from "#api/v1/node-report.ts";
import { fullJitter } from "#async/backoff.ts";
import { waitReasons } from "./failure.ts";
import {
  againMs,
  newlyOwed,
  repeatedRemovals,
  returnMs,
  type Expected,
  type Finding,
  type RetryPolicy,
  type TrackedImage,
} from "./tracked-image.ts";

/** How things stand when an agent starts again. */
export interface Restart {
  /**
   * Whether nothing that was asked of the node has changed since. Otherwise the change may be the
   * remedy, and what failed is due at once.
   */
  readonly isSamePlan: boolean;
  /** What the image should be now. */
  readonly expected: Expected;
  readonly now: Date;
  readonly policy: RetryPolicy;
}

/** Reasons that hold on without a failed pull. Others stem from the node's state, and come anew. */
const lastingReasons: ReadonlySet<string> = new Set([
  ...waitReasons,
  "Removed",
  "RemovedRepeatedly",
  "TagMoved",
]);

/** Goes on from what an earlier process reported. */
export function restored(reported: ReportedImage, restart: Restart): TrackedImage {
  const { reference, state, attempts = 0 } = reported;
  const { isSamePlan, now, policy } = restart;
  const sinceMs = Date.parse(reported.since);
  const since = Number.isNaN(sinceMs) ? now : new Date(sinceMs);
  const removals = removalsOf(reported);
  const finding = findingOf(reported);
  const known = { ...newlyOwed(reference, since), state, removals, ...(finding && { finding }) };
  if (state === "available") return { ...known, ...availableOf(reported, restart) };
  const awaited = finding && removals === 0 ? awaitedOf(restart.expected) : {};
  if (attempts > 0) {
    const dueMs = isSamePlan ? now.getTime() + fullJitter(attempts, policy) : 0;
    return { ...known, ...awaited, attempts, dueMs };
  }
  // A new start is no reason to go against whoever removes it.
  const isUnwanted = removals >= repeatedRemovals;
  return { ...known, ...awaited, dueMs: isUnwanted ? returnMs(removals, now, policy) : 0 };
}

function availableOf(
  { digest, sizeBytes = 0, reason }: ReportedImage,
  { expected, now, policy }: Restart,
): Partial<TrackedImage> {
  const held = { sizeBytes, ...(digest !== undefined && { digest }) };
  if (reason !== "TagMoved" || !expected.followsTag || expected.digest === undefined) {
    return { held };
  }
  const outdated = { expected: expected.digest, pulls: 1 };
  return { held, outdated, dueMs: againMs(outdated.pulls, now, policy) };
}

/** What it was pulled for, should the runtime have something else under its tag: that is no news. */
function awaitedOf({ followsTag, digest }: Expected): Pick<TrackedImage, "outdated"> {
  return followsTag && digest !== undefined ? { outdated: { expected: digest, pulls: 0 } } : {};
}

function removalsOf({ reason }: ReportedImage): number {
  if (reason === "RemovedRepeatedly") return repeatedRemovals;
  return reason === "Removed" ? 1 : 0;
}

function findingOf({ reason, message, attempts = 0 }: ReportedImage): Finding | undefined {
  if (reason === undefined || (attempts === 0 && !lastingReasons.has(reason))) return undefined;
  return { reason, ...(message !== undefined && { message }) };
}
