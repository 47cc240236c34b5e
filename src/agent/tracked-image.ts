import { isDeepStrictEqual } from "node:util";

import type { ImageState } from "#api/v1/node-report.ts";
import { fullJitter } from "#async/backoff.ts";
import type { Failure } from "./failure.ts";
import type { HeldImage } from "./inventory.ts";
import type { OwedImage } from "./owed.ts";

/** When failed pulls are tried again, and when they become an error. */
export interface RetryPolicy {
  /** Failed pulls in a row that make an `error`. Retries go on all the same. */
  readonly errorThreshold: number;
  /** Longest wait after the first failure, in milliseconds. */
  readonly minMs: number;
  /** Longest wait after any failure, in milliseconds. */
  readonly maxMs: number;
  readonly random: () => number;
}

/** How an owed image is doing. A new value is made for each change; an unchanged one is the same. */
export interface TrackedImage {
  readonly reference: string;
  readonly state: ImageState;
  /** When `state` was entered. */
  readonly since: Date;
  /** What the runtime has, if it is `available`. */
  readonly held?: ShownImage;
  /** Failed pulls since the last success. */
  readonly attempts: number;
  /** How often in a row a pull was put off before it began. */
  readonly postponements: number;
  readonly finding?: Finding;
  /** When it may be pulled, in milliseconds since 1970. */
  readonly dueMs: number;
  /** How often it was removed, each time soon after it had come back. */
  readonly removals: number;
  /** There while it follows its tag, and the runtime has something else under it. */
  readonly outdated?: Outdated;
}

/** An image that the runtime has, as reports show it. */
export interface ShownImage {
  /** What the registry called it, if that is certain. */
  readonly digest?: string;
  readonly sizeBytes: number;
}

/** A tag that names something else by now. */
export interface Outdated {
  /** What it is expected to name. */
  readonly expected: string;
  /** How often it was pulled in vain: the registry gave something else again. */
  readonly pulls: number;
}

/** What there is to say of an image: why it is not available, or what is odd about it. */
export interface Finding {
  readonly reason: string;
  readonly message?: string;
}

/** What is expected of an image under its name. */
export type Expected = Pick<OwedImage, "digest" | "followsTag">;

/** The wait before an image that somebody removed is pulled for the first time: they may not be done. */
const firstReturnMs = 4_000;

/**
 * The longest that anybody waits without another look at the clock, which may have been set back, and
 * longer than any pull is put off.
 */
export const longestWaitMs = 600_000;

/** Removals in short order that are no accident: whoever does it does not want the image here. */
export const repeatedRemovals = 3;

/** Begins with an image that was not owed before. */
export function newlyOwed(reference: string, now: Date): TrackedImage {
  return {
    reference,
    state: "pending",
    since: now,
    attempts: 0,
    postponements: 0,
    dueMs: 0,
    removals: 0,
  };
}

/**
 * The runtime has something under its name.
 *
 * If that is not what the tag is known to name, it is available all the same, and says so; an image
 * that follows its tag is pulled again and pending until then. If the registry then gives something
 * else again, it is available as it is, and pulled again after a backoff.
 *
 * @param wasPulled - whether this is what a pull has just brought.
 */
export function found(
  image: TrackedImage,
  held: HeldImage,
  {
    expected,
    now,
    policy,
    wasPulled = false,
  }: { expected: Expected; now: Date; policy: RetryPolicy; wasPulled?: boolean },
): TrackedImage {
  const isOther = isOtherThan(expected, held);
  const outdated =
    isOther && expected.followsTag
      ? outdatedBy(image, expected.digest ?? "", wasPulled)
      : undefined;
  if (outdated?.pulls === 0) return awaitingPull(image, outdated, now);

  const isNews = image.state !== "available";
  const since = isNews ? now : image.since;
  const isStable = !isNews && now.getTime() - since.getTime() >= policy.maxMs;
  const removals = isStable ? 0 : image.removals;
  const reason = isOther ? "TagMoved" : removals >= repeatedRemovals && "RemovedRepeatedly";
  const next: TrackedImage = {
    ...newlyOwed(image.reference, since),
    state: "available",
    held: shown(held, expected.digest),
    removals,
    ...(reason !== false && { finding: { reason } }),
    ...(outdated && {
      outdated,
      dueMs: wasPulled ? againMs(outdated.pulls, now, policy) : image.dueMs,
    }),
  };
  return isDeepStrictEqual(next, image) ? image : next;
}

/** A runtime that knows no digest may have anything: only whoever follows the tag has to care. */
function isOtherThan({ digest, followsTag }: Expected, { digests }: HeldImage): boolean {
  if (digest === undefined || digests.includes(digest)) return false;
  return followsTag || digests.length > 0;
}

function outdatedBy({ outdated }: TrackedImage, expected: string, wasPulled: boolean): Outdated {
  const before = outdated?.expected === expected ? outdated : { expected, pulls: 0 };
  return wasPulled ? { expected, pulls: before.pulls + 1 } : before;
}

function awaitingPull(image: TrackedImage, outdated: Outdated, now: Date): TrackedImage {
  if (image.outdated === outdated) return image; // Its pulls may have failed since.
  const { reference, state, since, removals } = image;
  return {
    ...newlyOwed(reference, state === "pending" ? since : now),
    finding: { reason: "TagMoved" },
    removals,
    outdated,
  };
}

function shown({ digests, sizeBytes }: HeldImage, expected: string | undefined): ShownImage {
  const [first, ...more] = digests;
  const only = more.length === 0 ? first : undefined;
  const digest = expected !== undefined && digests.includes(expected) ? expected : only;
  return { sizeBytes, ...(digest !== undefined && { digest }) };
}

/**
 * The runtime does not have it. If it had, somebody removed it: it comes back after a few seconds,
 * and each time later if it is removed again and again, as by a kubelet that is short of disk.
 */
export function missing(image: TrackedImage, now: Date, policy: RetryPolicy): TrackedImage {
  if (image.state !== "available") return image.outdated ? withoutOutdated(image) : image;
  const wasStable = now.getTime() - image.since.getTime() >= policy.maxMs;
  const removals = (wasStable ? 0 : image.removals) + 1;
  return {
    ...newlyOwed(image.reference, now),
    finding: { reason: removals >= repeatedRemovals ? "RemovedRepeatedly" : "Removed" },
    dueMs: returnMs(removals, now, policy),
    removals,
  };
}

function withoutOutdated(image: TrackedImage): TrackedImage {
  const { reference, state, since, attempts, postponements, dueMs, removals, finding } = image;
  const isTold = finding && finding.reason !== "TagMoved";
  const rest = { reference, state, since, attempts, postponements, dueMs, removals };
  return { ...rest, ...(isTold && { finding }) };
}

/** When an image that was removed so often comes back. */
export function returnMs(removals: number, now: Date, policy: RetryPolicy): number {
  return later(firstReturnMs * 2 ** (removals - 1), now, policy);
}

/** When an image that was pulled so often in vain is pulled again. */
export function againMs(pulls: number, now: Date, policy: RetryPolicy): number {
  return later(policy.minMs * 2 ** (pulls - 1), now, policy);
}

/** Half of a wait is random, so that nodes which wait for the same do not go on together. */
function later(ms: number, now: Date, { maxMs, random }: RetryPolicy): number {
  return now.getTime() + Math.ceil(Math.min(maxMs, ms) * (1 - random() / 2));
}

/** A pull failed for a reason that concerns the image. */
export function failed(
  image: TrackedImage,
  failure: Failure,
  now: Date,
  policy: RetryPolicy,
): TrackedImage {
  const attempts = image.attempts + 1;
  const { reason, message } = failure;
  const { outdated } = image;
  // What is there is better than nothing, and whether there is anything newer is not known.
  if (image.state === "available" && outdated) {
    const pulls = outdated.pulls + 1;
    const dueMs = againMs(pulls, now, policy);
    return { ...image, postponements: 0, dueMs, outdated: { ...outdated, pulls } };
  }
  const state = attempts >= policy.errorThreshold ? "error" : "pending";
  const isSameError = state === image.state && state === "error";
  return {
    ...newlyOwed(image.reference, state === image.state ? image.since : now),
    state,
    attempts,
    // The same error in other words is no news: a report must not change for ever.
    finding: isSameError && image.finding?.reason === reason ? image.finding : { reason, message },
    dueMs: now.getTime() + fullJitter(attempts, policy),
    removals: image.removals,
    ...(outdated && { outdated }),
  };
}

/**
 * A pull did not begin, or ended without fault of the image: it is due later.
 *
 * @param why - what it waits for, if that is worth telling. It is not told of an image that has
 * failed: why it did says more.
 */
export function postponed(
  image: TrackedImage,
  { dueMs, why }: { dueMs: number; why?: Finding },
): TrackedImage {
  const isTold = why !== undefined && image.state === "pending" && image.attempts === 0;
  return {
    ...image,
    postponements: image.postponements + 1,
    dueMs,
    ...(isTold && { finding: isDeepStrictEqual(image.finding, why) ? image.finding : why }),
  };
}

/** Something that names the image has changed: what failed may work now, so it is due at once. */
export function renewed(image: TrackedImage, now: Date): TrackedImage {
  if (image.state === "available") return image.outdated ? { ...image, dueMs: 0 } : image;
  const since = image.state === "pending" ? image.since : now;
  return newlyOwed(image.reference, since);
}

/** Puts right what seems far off since the clock was set back: nothing would happen until then. */
export function timely(image: TrackedImage, now: Date, { maxMs }: RetryPolicy): TrackedImage {
  const latestMs = now.getTime() + Math.max(maxMs, longestWaitMs);
  const since = image.since > now ? now : image.since;
  const dueMs = Math.min(image.dueMs, latestMs);
  return since === image.since && dueMs === image.dueMs ? image : { ...image, since, dueMs };
}

/** When an image will look different by the passage of time alone, in milliseconds since 1970. */
export function calmAtMs({ state, removals, since }: TrackedImage, policy: RetryPolicy): number {
  const isMarked = state === "available" && removals >= repeatedRemovals;
  return isMarked ? since.getTime() + policy.maxMs : Infinity;
}
