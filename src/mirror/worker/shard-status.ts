import { formatTime } from "#api/v1/conditions.ts";
import type { MirrorShard, MirrorShardStatus } from "#api/v1/mirror-shard.ts";
import type { CopyFailure } from "#mirror/copy-result.ts";
import { failureOf } from "./failure.ts";
import type { RunCounts } from "./run-tally.ts";

type SecretProblems = NonNullable<MirrorShardStatus["secretProblems"]>;
type Removals = NonNullable<MirrorShardStatus["removals"]>;

/** As many Secrets as a shard can name. */
const maxSecretProblems = 18;

/** What statuses have room for. */
const maxMessageLength = 256;

/** How often referrers of what is unchanged are looked for. */
const referrersIntervalMs = 6 * 60 * 60_000;

/** How long after the registry's own time a throttled run begins at most, so that not all come at once. */
const maxThrottleJitterMs = 30_000;

/** After a failure it is tried again sooner than usual, but not at once. */
const retryMs = { min: 30_000, max: 10 * 60_000 };

/** What is known of copies that are no longer asked for. */
export interface RemovalFacts {
  /** How many there are. */
  readonly removable: number;
  /** Those that are due first. */
  readonly removals: Removals;
  /** How many were removed in this run. */
  readonly removed: number;
  /** Whether the registry refuses to remove; `undefined` if it was not asked. */
  readonly isUnsupported: boolean | undefined;
}

interface Telling {
  readonly counts: RunCounts;
  readonly secretProblems: SecretProblems;
  readonly now: Date;
}

/** How far a run is, or was when it was interrupted. */
export function statusDuring(
  { status }: MirrorShard,
  { counts, secretProblems, now, worker }: Telling & { readonly worker: string | undefined },
): MirrorShardStatus {
  // Without `selection`, which says that all that was written is on record.
  return {
    ...keptOf(status),
    ...countsOf(status, counts, now),
    ...noted(secretProblems),
    ...(worker !== undefined && { worker }),
  };
}

export interface Ending extends Telling {
  /** Why it is not known which tags there are. */
  readonly failure: CopyFailure | undefined;
  /** Whether new referrers of all tags were looked for. */
  readonly wereReferrersDue: boolean;
  /** Hash of what was selected; `undefined` if what was written is not on record. */
  readonly selection: string | undefined;
  /** `undefined` if nobody looked. */
  readonly removal: RemovalFacts | undefined;
  /** When the next run would be if all went well. */
  readonly regularTime: Date;
  /** In [0, 1), as `Math.random`. */
  readonly random: () => number;
}

/** How a run that came to its end went. */
export function statusAfter(shard: MirrorShard, ending: Ending): MirrorShardStatus {
  const { metadata, spec, status } = shard;
  const { counts, failure, now, secretProblems, wereReferrersDue, selection, removal } = ending;
  const { throttledUntilMs, digestsDiffer } = counts;
  if (failure?.outcome === "throttled" && failure.retryAfterMs !== undefined) {
    const untilMs = Math.max(throttledUntilMs ?? 0, now.getTime() + failure.retryAfterMs);
    return statusAfter(shard, {
      ...ending,
      counts: { ...counts, throttledUntilMs: untilMs },
      failure: { outcome: "throttled", reason: failure.reason },
    });
  }
  return {
    ...keptOf(status),
    ...countsOf(status, counts, now),
    // In place of tags that nobody knows.
    ...(failure && { failure: failureOf(failure), pending: 0, [failure.outcome]: 1 }),
    ...noted(secretProblems),
    ...((failure ? status?.digestsDiffer : digestsDiffer) && { digestsDiffer: true }),
    ...(selection !== undefined && { selection }),
    ...(removal && removalOf(status, removal)),
    ...(metadata.generation !== undefined && { observedGeneration: metadata.generation }),
    ...(spec.run !== undefined && { observedRun: spec.run }),
    ...(wereReferrersDue && !failure && { lastReferrersTime: formatTime(now) }),
    lastSyncTime: formatTime(now),
    nextSyncTime: formatTime(nextTime(shard, ending)),
  };
}

/**
 * Whether it is time to look for new referrers of all that is unchanged; else the tags that failed last
 * time, if some did: it may have been a referrer that failed.
 */
export function referrersDue(
  { metadata, spec, status }: MirrorShard,
  now: Date,
): boolean | ReadonlySet<string> {
  if (!spec.referrers) return false;
  const {
    lastReferrersTime,
    observedGeneration,
    observedRun,
    failed = 0,
    throttled = 0,
    failures = [],
  } = status ?? {};
  const lastMs = lastReferrersTime === undefined ? -Infinity : Date.parse(lastReferrersTime);
  const isAsked = observedGeneration !== metadata.generation || observedRun !== spec.run;
  // What is no time, or one that is yet to come, must not put it off for ever.
  const isRecent = Math.abs(now.getTime() - lastMs) < referrersIntervalMs;
  if (isAsked || !isRecent || failed + throttled > failures.length) return true;
  return failures.length > 0 && new Set(failures.map(({ tag }) => tag));
}

function keptOf(status: MirrorShardStatus | undefined): Partial<MirrorShardStatus> {
  const kept = { ...status };
  const anew = [
    "worker",
    "failure",
    "failures",
    "secretProblems",
    "digestsDiffer",
    "throttledUntil",
    "selection",
  ] as const;
  for (const field of anew) delete kept[field];
  return kept;
}

type Counts = Pick<
  MirrorShardStatus,
  "tags" | "synced" | "pending" | "failed" | "throttled" | "bytesCopied" | "failures"
>;

/** While it is not known which tags there are, those of the last run stand for them. */
function countsOf(before: MirrorShardStatus | undefined, counts: RunCounts, now: Date): Counts {
  const { failed, failures, throttledUntilMs = 0 } = counts;
  const { tags = before?.tags ?? 0 } = counts;
  const synced = counts.tags === undefined ? Math.min(before?.synced ?? 0, tags) : counts.synced;
  const left = Math.max(0, tags - synced - failed - counts.throttled);
  const isHeld = throttledUntilMs > now.getTime();
  const waiting = isHeld && counts.tags === undefined ? Math.max(left, 1) : left;
  return {
    tags,
    synced,
    pending: isHeld ? 0 : left,
    failed,
    throttled: counts.throttled + (isHeld ? waiting : 0),
    bytesCopied: (before?.bytesCopied ?? 0) + counts.bytesCopied,
    ...(failures.length > 0 && { failures }),
    ...(isHeld && { throttledUntil: formatTime(new Date(throttledUntilMs)) }),
  };
}

function noted(problems: SecretProblems): Pick<MirrorShardStatus, "secretProblems"> {
  if (problems.length === 0) return {};
  const secretProblems = problems.slice(0, maxSecretProblems).map((problem) => {
    return { ...problem, message: problem.message.slice(0, maxMessageLength).toWellFormed() };
  });
  return { secretProblems };
}

function removalOf(
  before: MirrorShardStatus | undefined,
  { removable, removals, removed, isUnsupported = before?.deleteUnsupported }: RemovalFacts,
): Partial<MirrorShardStatus> {
  return {
    removable,
    removals,
    removed: (before?.removed ?? 0) + removed,
    ...(isUnsupported !== undefined && { deleteUnsupported: isUnsupported }),
  };
}

function nextTime({ status }: MirrorShard, ending: Ending): Date {
  const { counts, failure, regularTime, now, random } = ending;
  const nowMs = now.getTime();
  const { throttledUntilMs = 0 } = counts;
  const isThrottled = counts.throttled > 0 || failure?.outcome === "throttled";
  if (isThrottled && throttledUntilMs > nowMs) {
    return new Date(throttledUntilMs + random() * maxThrottleJitterMs);
  }
  if (!isThrottled && counts.failed === 0 && !failure) return regularTime;
  const waitMs = retryMs.min + random() * (3 * lastWaitMs(status) - retryMs.min);
  return new Date(Math.min(nowMs + Math.min(waitMs, retryMs.max), regularTime.getTime()));
}

/**
 * How long it was waited after the last failure. Waits grow from one to the next, at random, as in the AWS
 * Architecture Blog's "decorrelated jitter": nothing needs to be counted.
 */
function lastWaitMs(status: MirrorShardStatus | undefined): number {
  const { failed = 0, throttled = 0, failure, lastSyncTime = "", nextSyncTime = "" } = status ?? {};
  if (failed + throttled === 0 && !failure) return retryMs.min;
  const waitMs = Date.parse(nextSyncTime) - Date.parse(lastSyncTime);
  return Math.min(Math.max(Number.isNaN(waitMs) ? 0 : waitMs, retryMs.min), retryMs.max);
}
