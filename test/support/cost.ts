import assert from "node:assert/strict";

/** How much larger the large input is than the small one. */
const growth = 8;

/** What caches and collections of garbage may add; a quadratic cost would add eight times. */
const tolerance = 3;

/** Enough of the processor's time to compare, in microseconds: some kernels count in steps of 4 ms. */
const enoughMicroseconds = 24_000;

/** Work that costs less than this each does not matter, however often it is repeated. */
const maxRounds = 1 << 16;

/**
 * Checks that what `work` costs grows as its input does, and not with its square: it does the work for an
 * eighth of `size` so often that it can be measured, and then an eighth as often for `size`. It counts
 * the processor's time of this thread, which other processes do not change.
 */
export function assertLinear(work: (size: number) => void, size: number, message?: string): void {
  const eighth = Math.ceil(size / growth);
  let rounds = growth;
  let small = costOf(work, eighth, rounds);
  while (small < enoughMicroseconds && rounds < maxRounds) {
    rounds *= 2;
    small = costOf(work, eighth, rounds);
  }
  const large = costOf(work, size, rounds / growth);
  const told = `${message ?? "it"}: ${large} µs for ${size}, ${small} µs for as much in eighths`;
  assert.ok(large <= Math.max(small, enoughMicroseconds) * tolerance, told);
}

/** In microseconds of this thread. */
function costOf(work: (size: number) => void, size: number, rounds: number): number {
  const before = process.threadCpuUsage();
  for (let round = 0; round < rounds; round++) work(size);
  const { user, system } = process.threadCpuUsage(before);
  return user + system;
}
