import { setImmediate } from "node:timers/promises";

import type { Clock } from "#async/clock.ts";

interface Sleeper {
  dueMs: number;
  wake: () => void;
}

/** A clock that stands still until a test moves it. */
export class ManualClock implements Clock {
  #nowMs: number;
  readonly #sleepers = new Set<Sleeper>();

  constructor(start: Date = new Date("2026-01-01T00:00:00Z")) {
    this.#nowMs = start.getTime();
  }

  /** How many sleeps are waiting to be woken. */
  get sleeping(): number {
    return this.#sleepers.size;
  }

  now(): Date {
    return new Date(this.#nowMs);
  }

  async sleep(ms: number, { signal }: { signal: AbortSignal }): Promise<void> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const sleeper = { dueMs: this.#nowMs + Math.max(ms, 0), wake: resolve };
    const onAbort = (): void => {
      // Wrapped as node:timers/promises wraps it, so that callers meet what they will meet.
      reject(new DOMException("The operation was aborted", { cause: signal.reason }));
    };
    this.#sleepers.add(sleeper);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await promise;
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.#sleepers.delete(sleeper);
    }
  }

  /**
   * Moves time on, waking sleepers in the order in which they are due. Whoever is woken may sleep
   * again and, if still due, is woken again. Resolves when all that followed has run.
   */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    await setImmediate(); // Whoever is about to sleep gets there first.
    for (;;) {
      const [next] = [...this.#sleepers].sort((a, b) => a.dueMs - b.dueMs);
      if (!next || next.dueMs > endMs) break;
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      this.#sleepers.delete(next);
      next.wake();
      await setImmediate();
    }
    this.#nowMs = endMs;
  }
}
