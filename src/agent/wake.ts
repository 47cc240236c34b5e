import { addAbortListener } from "node:events";

import type { Clock } from "#async/clock.ts";

/**
 * Wakes a loop when there is something to look at. Any number of notifications before the loop
 * comes to wait are one; at most one loop waits.
 */
export class Wake {
  readonly #clock: Clock;
  #isNotified = false;
  #wake: () => void = () => {};

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  notify(): void {
    this.#isNotified = true;
    this.#wake();
  }

  /**
   * Waits until notified, or for `timeoutMs`.
   *
   * @returns whether it was notified.
   * @throws the signal's reason, if aborted.
   */
  async wait({
    signal,
    timeoutMs,
  }: {
    signal: AbortSignal;
    timeoutMs?: number | undefined;
  }): Promise<boolean> {
    signal.throwIfAborted();
    if (!this.#isNotified) await this.#sleep(signal, timeoutMs);
    signal.throwIfAborted();
    const isNotified = this.#isNotified;
    this.#isNotified = false;
    return isNotified;
  }

  async #sleep(signal: AbortSignal, timeoutMs: number | undefined): Promise<void> {
    const stop = new AbortController();
    const notified = Promise.withResolvers<void>();
    this.#wake = notified.resolve;
    using _ = addAbortListener(signal, () => notified.resolve());
    const timeout =
      timeoutMs === undefined ? [] : [this.#clock.sleep(timeoutMs, { signal: stop.signal })];
    try {
      await Promise.race([notified.promise, ...timeout]);
    } finally {
      stop.abort();
      this.#wake = () => {};
    }
  }
}
