import assert from "node:assert/strict";

/** How much larger the large input is than the small one. */
const growth = 8;

/** What caches and collections of garbage may add; a quadratic cost would add eight times. */
const tolerance = 3;

/** Below this many microseconds there is nothing to compare. */
const floorMicroseconds = 2_000;

/**
 * Checks that what `work` costs grows as its input does, and not with its square: it compares the
 * processor's time for `size` with that for an eighth, which other processes do not change.
 */
export function assertLinear(work: (size: number) => void, size: number, message?: string): void {
  const small = Math.max(costOf(work, Math.ceil(size / growth)), floorMicroseconds);
  const large = costOf(work, size);
  const told = `${message ?? "it"}: ${large} µs for ${size}, ${small} µs for an eighth`;
  assert.ok(large <= small * growth * tolerance, told);
}

/** The least of three rounds, in microseconds of this thread. */
function costOf(work: (size: number) => void, size: number): number {
  const rounds = Array.from({ length: 3 }, () => {
    const before = process.threadCpuUsage();
    work(size);
    const { user, system } = process.threadCpuUsage(before);
    return user + system;
  });
  return Math.min(...rounds);
}
