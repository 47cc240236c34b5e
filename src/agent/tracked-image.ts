import { isDeepStrictEqual } from "node:util";

import type { ImageState, ReportedImage } from "#api/v1/node-report.ts";
import { fullJitter } from "#async/backoff.ts";
import type { Failure } from "./failure.ts";
import type { HeldImage } from "./inventory.ts";

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
  readonly held?: HeldImage;
  /** Failed pulls since the last success. */
  readonly attempts: number;
  readonly finding?: Finding;
  /** When it may be pulled, in milliseconds since 1970. */
  readonly dueMs: number;
  /** How often it was removed, each time soon after it had come back. */
  readonly removals: number;
}

/** What there is to say of an image that is not available. */
export interface Finding {
  readonly reason: string;
  readonly message?: string;
}

/** The wait before an image that somebody removed is pulled for the first time: they may not be done. */
const firstReturnMs = 4_000;

/** Begins with an image that was not owed before. */
export function newlyOwed(reference: string, now: Date): TrackedImage {
  return { reference, state: "pending", since: now, attempts: 0, dueMs: 0, removals: 0 };
}

/**
 * Goes on from what an earlier process reported.
 *
 * @param isSamePlan - whether nothing that was asked of the node has changed since. Otherwise the
 * change may be the remedy, and the image is due at once.
 */
export function restored(
  reported: ReportedImage,
  { isSamePlan, now, policy }: { isSamePlan: boolean; now: Date; policy: RetryPolicy },
): TrackedImage {
  const { reference, state, digest, sizeBytes, reason, message, attempts = 0 } = reported;
  const sinceMs = Date.parse(reported.since);
  const hasFailed = attempts > 0;
  return {
    reference,
    state,
    since: Number.isNaN(sinceMs) ? now : new Date(sinceMs),
    attempts,
    dueMs: hasFailed && isSamePlan ? now.getTime() + fullJitter(attempts, policy) : 0,
    removals: 0,
    ...(state === "available" && {
      held: { sizeBytes: sizeBytes ?? 0, ...(digest !== undefined && { digest }) },
    }),
    ...(hasFailed &&
      reason !== undefined && { finding: { reason, ...(message !== undefined && { message }) } }),
  };
}

/** The runtime has it. */
export function found(image: TrackedImage, held: HeldImage, now: Date): TrackedImage {
  const { reference, removals } = image;
  const isNews = image.state !== "available";
  if (!isNews && isDeepStrictEqual(held, image.held)) return image;
  const since = isNews ? now : image.since;
  return { reference, state: "available", since, held, attempts: 0, dueMs: 0, removals };
}

/**
 * The runtime does not have it. If it had, somebody removed it: it comes back after a few seconds,
 * and each time later if it is removed again and again, as by a kubelet that is short of disk.
 */
export function missing(image: TrackedImage, now: Date, policy: RetryPolicy): TrackedImage {
  if (image.state !== "available") return image;
  const wasStable = now.getTime() - image.since.getTime() >= policy.maxMs;
  const removals = (wasStable ? 0 : image.removals) + 1;
  const boundMs = Math.min(policy.maxMs, firstReturnMs * 2 ** (removals - 1));
  return {
    reference: image.reference,
    state: "pending",
    since: now,
    attempts: 0,
    finding: { reason: "Removed" },
    // Half is random, so that nodes which lost it together do not pull it together.
    dueMs: now.getTime() + Math.ceil(boundMs * (1 - policy.random() / 2)),
    removals,
  };
}

/** A pull failed for a reason that concerns the image. */
export function failed(
  image: TrackedImage,
  failure: Failure,
  now: Date,
  policy: RetryPolicy,
): TrackedImage {
  const attempts = image.attempts + 1;
  const state = attempts >= policy.errorThreshold ? "error" : "pending";
  const isSameError = state === image.state && state === "error";
  const { reason, message } = failure;
  return {
    reference: image.reference,
    state,
    since: state === image.state ? image.since : now,
    attempts,
    // The same error in other words is no news: a report must not change for ever.
    finding: isSameError && image.finding?.reason === reason ? image.finding : { reason, message },
    dueMs: now.getTime() + fullJitter(attempts, policy),
    removals: image.removals,
  };
}

/** A pull failed without fault of the image: it is as it was, and due later. */
export function postponed(image: TrackedImage, now: Date, policy: RetryPolicy): TrackedImage {
  return { ...image, dueMs: now.getTime() + fullJitter(1, policy) };
}

/** Something that names the image has changed: what failed may work now, so it is due at once. */
export function renewed(image: TrackedImage, now: Date): TrackedImage {
  if (image.state === "available") return image;
  const since = image.state === "pending" ? image.since : now;
  return { ...newlyOwed(image.reference, now), since };
}
