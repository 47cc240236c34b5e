import { setTimeout } from "node:timers/promises";

/** Waits until something is so, looking every 20 ms. @throws {Error} if it is not within a minute. */
export async function until(
  what: string,
  isSo: () => boolean | Promise<boolean>,
  { timeoutMs = 60_000, signal }: { timeoutMs?: number; signal: AbortSignal },
): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!(await isSo())) {
    if (performance.now() > endMs) throw new Error(`It did not come to this: ${what}`);
    await setTimeout(20, undefined, { signal });
  }
}
