import { parseSchedule, ScheduleError } from "#api/v1/cron.ts";
import type { MirrorShardSpec } from "#api/v1/mirror-shard.ts";
import { parseGoDuration } from "#remote/go-duration.ts";

const hourMs = 60 * 60_000;

/** Whoever asks for less does not mean to keep workers and registries busy all the time. */
const minWaitMs = 10_000;

/** Which part of the time from one run to the next is left to chance. */
const jitter = 1 / 10;

/** Whoever writes a schedule means the time that it says. */
const maxScheduleJitterMs = 60_000;

/**
 * Says when a shard is looked at again: after its interval, or when its schedule says so. Without either,
 * or with what cannot be read, after an hour.
 *
 * Not to the second, so that not all shards come at the same moment: an interval is 10 % longer or shorter,
 * a schedule late by at most a minute, and at most 10 % of the time to its next date.
 *
 * @param options.random - in [0, 1), as `Math.random`.
 */
export function nextSyncTime(
  spec: Pick<MirrorShardSpec, "interval" | "schedule" | "timeZone">,
  options: { now: Date; random: () => number },
): Date {
  const nowMs = options.now.getTime();
  const timeMs = scheduledMs(spec, options) ?? nowMs + intervalMs(spec, options);
  return new Date(Math.max(timeMs, nowMs + minWaitMs));
}

function intervalMs(
  { interval }: Pick<MirrorShardSpec, "interval">,
  { random }: { random: () => number },
): number {
  const givenMs = interval === undefined ? hourMs : (parseGoDuration(interval) ?? hourMs);
  return givenMs * (1 + jitter * (2 * random() - 1));
}

/** `undefined` without a schedule, and with one that never comes due. */
function scheduledMs(
  { schedule, timeZone }: Pick<MirrorShardSpec, "schedule" | "timeZone">,
  { now, random }: { now: Date; random: () => number },
): number | undefined {
  if (schedule === undefined) return undefined;
  try {
    const dates = parseSchedule(schedule, timeZone);
    const next = dates.next(now);
    if (!next) return undefined;
    const following = dates.next(next);
    const gapMs = following ? following.getTime() - next.getTime() : Infinity;
    return next.getTime() + random() * Math.min(jitter * gapMs, maxScheduleJitterMs);
  } catch (error) {
    if (!(error instanceof ScheduleError)) throw error;
    return undefined; // The controller says in the Mirror's status what is wrong with it.
  }
}
