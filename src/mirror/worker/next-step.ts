import type { MirrorShard } from "#api/v1/mirror-shard.ts";
import { ownerOf } from "./rendezvous.ts";

/** What a worker does with a shard now. */
export type Step =
  | { readonly kind: "run" }
  /** Nothing before that time, in milliseconds since 1970. */
  | { readonly kind: "wait"; readonly untilMs: number }
  /** Nothing, until the shard or the workers change. */
  | { readonly kind: "leave" };

/** Who looks at a shard. */
export interface Onlooker {
  readonly identity: string;
  /** The workers that live; this one as long as it may act as one. */
  readonly members: ReadonlySet<string>;
}

export interface Situation extends Onlooker {
  /** Whether something has changed by which a registry may judge otherwise: the spec, or the logins. */
  readonly isAskedAnew: boolean;
  readonly now: Date;
}

/** Of a run that ended later than this from now, the clock was wrong: what it says of the next one means nothing. */
const maxSkewMs = 60 * 60_000;

/** No registry is left alone for longer, whatever it asks for: as long as Docker Hub counts. */
const maxHoldMs = 6 * 60 * 60_000;

/** Says whether a shard is this worker's to run, or to go on with. */
export function isOwn(shard: MirrorShard, { identity, members }: Onlooker): boolean {
  const { metadata, spec, status } = shard;
  if (metadata.deletionTimestamp !== undefined || spec.suspend) return false;
  if (ownerOf(spec.source, members) !== identity) return false;
  const { worker = identity } = status ?? {};
  // Who died lets go of what it was at.
  return worker === identity || !members.has(worker);
}

/**
 * Decides what this worker does with a shard that it does not run.
 *
 * A registry that wants to be left alone is, whatever is due, unless it is asked something else than before.
 */
export function nextStep(shard: MirrorShard, situation: Situation): Step {
  if (!isOwn(shard, situation)) return { kind: "leave" };
  if (situation.isAskedAnew) return { kind: "run" };
  const nowMs = situation.now.getTime();
  const heldMs = heldUntilMs(shard, nowMs);
  if (heldMs !== undefined) return { kind: "wait", untilMs: heldMs };
  const dueMs = dueTimeMs(shard, nowMs);
  return dueMs <= nowMs ? { kind: "run" } : { kind: "wait", untilMs: dueMs };
}

/** Until when a registry wants to be left alone, in milliseconds since 1970; `undefined` if none does. */
export function heldUntilMs({ status }: MirrorShard, nowMs: number): number | undefined {
  const untilMs = Date.parse(status?.throttledUntil ?? "");
  // Who wrote what is later still had a clock that was wrong.
  return untilMs > nowMs && untilMs <= nowMs + maxHoldMs + maxSkewMs ? untilMs : undefined;
}

/** In milliseconds since 1970; `-Infinity` if it is due whatever the time. */
function dueTimeMs({ metadata, spec, status }: MirrorShard, nowMs: number): number {
  const { worker, observedGeneration, observedRun, lastSyncTime, nextSyncTime } = status ?? {};
  if (worker !== undefined) return -Infinity; // It was not done to its end.
  // Approved removals are a change of the spec too. Those that were tried and are still there wait.
  if (observedGeneration !== metadata.generation) return -Infinity;
  if (spec.run !== undefined && spec.run !== observedRun) return -Infinity;
  if (Date.parse(lastSyncTime ?? "") > nowMs + maxSkewMs) return -Infinity;
  const timeMs = Date.parse(nextSyncTime ?? "");
  return Number.isNaN(timeMs) ? -Infinity : timeMs;
}
