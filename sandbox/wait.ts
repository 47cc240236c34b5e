import { setTimeout as sleep } from "node:timers/promises";

export interface WaitOptions {
  /** What is waited for, for the error: "node1 to be Ready". */
  what: string;
  /** Longest wait, in milliseconds: 60 s if not given. */
  timeoutMs?: number;
  /** Pause between two looks, in milliseconds: 50 if not given. */
  everyMs?: number;
  /** Says why it is taking long, for the error: a daemon's last log lines. */
  explain?: () => string | Promise<string>;
  signal: AbortSignal;
}

/**
 * Waits until `look` returns something other than `undefined` or `false`, and returns that.
 * An error of `look` counts as "not yet".
 *
 * @throws {Error} naming `what`, the last error and the explanation when the time is over.
 * @throws the signal's reason, if aborted.
 */
export async function waitFor<T>(
  look: (signal: AbortSignal) => Promise<T | undefined | false> | T | undefined | false,
  { what, timeoutMs = 60_000, everyMs = 50, explain, signal }: WaitOptions,
): Promise<T> {
  const end = performance.now() + timeoutMs;
  let lastError: unknown;
  while (performance.now() < end) {
    signal.throwIfAborted();
    try {
      const seen = await look(AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]));
      if (seen !== undefined && seen !== false) return seen;
      lastError = undefined;
    } catch (error) {
      signal.throwIfAborted();
      lastError = error;
    }
    await sleep(everyMs, undefined, { signal });
  }
  const why = [lastError instanceof Error ? lastError.message : "", (await explain?.()) ?? ""];
  const details = why.filter(Boolean).join("\n");
  throw new Error(`Waited ${timeoutMs} ms in vain for ${what}${details && `:\n${details}`}`, {
    cause: lastError,
  });
}
