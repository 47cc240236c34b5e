export interface BackoffOptions {
  /** Longest wait after the first failure, in milliseconds. */
  minMs: number;
  /** Longest wait after any failure, in milliseconds. */
  maxMs: number;
  /** Returns a number in [0, 1), as `Math.random` does. */
  random: () => number;
}

/**
 * Picks how long to wait before trying again: anything up to a bound that doubles per attempt.
 *
 * The whole range is random ("full jitter"), so that clients which failed together do not come
 * back together (AWS Architecture Blog, "Exponential Backoff And Jitter").
 *
 * @param attempt - how often it has failed so far, from 1.
 * @returns whole milliseconds, at least 1 and at most `maxMs`.
 */
export function fullJitter(attempt: number, { minMs, maxMs, random }: BackoffOptions): number {
  const bound = Math.min(maxMs, minMs * 2 ** (Math.max(attempt, 1) - 1));
  return Math.ceil(bound * (1 - random()));
}
