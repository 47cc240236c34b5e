import { setImmediate } from "node:timers/promises";

import { isAbort } from "#async/abort.ts";
import { fullJitter } from "#async/backoff.ts";
import type { Clock } from "#async/clock.ts";
import type { Log } from "#telemetry/log.ts";
import type { Registry } from "#telemetry/metrics.ts";
import { ApiError } from "./errors.ts";
import { workQueueMetrics, type WorkQueueMetrics } from "./metrics.ts";
import { TerminalError, type Reconcile, type Result } from "./reconcile.ts";

/** Node's timers take no longer waits: they would end at once. */
const maxSleepMs = 2 ** 31 - 1;

/** Thousands of reconciles that wait for nothing must not keep timers and probes waiting for longer. */
const maxTurnMs = 200;

export interface WorkQueueOptions {
  /** The controller's name, in its logs and metrics. */
  name: string;
  clock: Clock;
  random?: () => number;
  /** Bounds of the wait after a failed reconcile; see `fullJitter`. */
  backoff: { minMs: number; maxMs: number };
  metrics?: Registry;
  /** Who takes turns, like the namespaces of keys: one with thousands of them delays no other. */
  groupOf?: (key: string) => string;
}

/**
 * Hands keys to a reconciler, first come first served within each group, with what client-go's queue promises:
 *
 * - A key that is added while it waits is there once.
 * - A key is never reconciled twice at the same time. Added meanwhile, it is reconciled once more.
 * - A key whose reconcile throws comes again, after a wait that grows with each failure.
 * - Of several delayed adds of a key, the earliest counts.
 *
 * ```ts
 * const queue = new WorkQueue({ name: "image", clock, backoff: { minMs: 500, maxMs: 60_000 } });
 * using _ = images.onChange(({ key }) => queue.add(key));
 * await queue.run(reconcile, { workers: 2, log, signal });
 * ```
 */
export class WorkQueue {
  readonly #name: string;
  readonly #clock: Clock;
  readonly #backoff: { minMs: number; maxMs: number; random: () => number };
  readonly #metrics: WorkQueueMetrics | undefined;

  readonly #groupOf: (key: string) => string;

  /**
   * Keys to reconcile, by group, in the order they came; whose turn it was is last. One in progress waits here for
   * its second turn.
   */
  readonly #waiting = new Map<string, Set<string>>();
  #size = 0;
  readonly #inProgress = new Set<string>();
  readonly #failures = new Map<string, number>();
  /** When the keys that were added with a delay are due, in milliseconds since 1970. */
  readonly #due = new Map<string, number>();
  readonly #idle: (() => void)[] = [];
  #stop: AbortSignal | undefined;
  #alarm: { atMs: number; cancel: () => void } | undefined;

  constructor(options: WorkQueueOptions) {
    const { name, clock, random = Math.random, backoff, metrics, groupOf = () => "" } = options;
    this.#name = name;
    this.#groupOf = groupOf;
    this.#clock = clock;
    this.#backoff = { ...backoff, random };
    this.#metrics = metrics && workQueueMetrics(metrics, name);
  }

  /** How many keys wait for a worker. Delayed ones do not count. */
  get size(): number {
    return this.#size;
  }

  /** Has a key reconciled as soon as a worker is free. */
  add(key: string): void {
    const group = this.#groupOf(key);
    const keys = this.#waiting.get(group) ?? new Set();
    if (!keys.has(key)) this.#size++;
    this.#waiting.set(group, keys.add(key));
    this.#showDepth();
    this.#idle.shift()?.();
  }

  /** Has a key reconciled in so many milliseconds, or earlier if something else asks for it. */
  addAfter(key: string, ms: number): void {
    if (ms <= 0) return this.add(key);
    const dueMs = this.#clock.now().getTime() + ms;
    const earlierMs = Math.min(dueMs, this.#due.get(key) ?? Infinity);
    this.#due.set(key, earlierMs);
    this.#setAlarm(earlierMs);
  }

  /** Forgets that a key has failed: its next failure counts as the first. */
  forget(key: string): void {
    this.#failures.delete(key);
  }

  /** Reconciles keys until aborted, and then until what is in hand has settled. Call it once. */
  async run(
    reconcile: Reconcile,
    { workers, log, signal }: { workers: number; log: Log; signal: AbortSignal },
  ): Promise<void> {
    this.#stop = signal;
    this.#setAlarm(Math.min(...this.#due.values()));
    const wakeAll = (): void => {
      for (const wake of this.#idle.splice(0)) wake();
    };
    signal.addEventListener("abort", wakeAll, { once: true });
    const context = { log: log.child({ controller: this.#name }), signal };
    const work = async (): Promise<void> => {
      let turnStartMs = performance.now();
      while (!signal.aborted) {
        const key = this.#take();
        if (key === undefined) {
          await new Promise<void>((wake) => this.#idle.push(wake));
          turnStartMs = performance.now();
          continue;
        }
        await this.#reconcile(key, reconcile, context);
        if (performance.now() - turnStartMs < maxTurnMs) continue;
        await setImmediate();
        turnStartMs = performance.now();
      }
    };
    await Promise.all(Array.from({ length: workers }, work));
    signal.removeEventListener("abort", wakeAll);
  }

  #take(): string | undefined {
    for (const [group, keys] of this.#waiting) {
      for (const key of keys) {
        if (this.#inProgress.has(key)) continue;
        keys.delete(key);
        this.#size--;
        this.#waiting.delete(group);
        if (keys.size > 0) this.#waiting.set(group, keys);
        this.#showDepth();
        return key;
      }
    }
    return undefined;
  }

  async #reconcile(
    key: string,
    reconcile: Reconcile,
    { log, signal }: { log: Log; signal: AbortSignal },
  ): Promise<void> {
    this.#inProgress.add(key);
    const startedAtMs = performance.now();
    try {
      const result = await Promise.try(() => reconcile(key, { log: log.child({ key }), signal }));
      this.#settle(key, result);
    } catch (error) {
      if (!isAbort(error, signal)) this.#fail(key, error, log);
    } finally {
      this.#inProgress.delete(key);
      const seconds = (performance.now() - startedAtMs) / 1_000;
      this.#metrics?.seconds.observe({ controller: this.#name }, seconds);
      // A worker that found only this key, and it taken, must look again.
      if (this.#waiting.get(this.#groupOf(key))?.has(key)) this.#idle.shift()?.();
    }
  }

  #settle(key: string, { requeueAfterMs }: Result): void {
    this.forget(key);
    if (requeueAfterMs !== undefined) this.addAfter(key, requeueAfterMs);
    this.#count(requeueAfterMs === undefined ? "settled" : "requeued");
  }

  #fail(key: string, error: unknown, log: Log): void {
    if (error instanceof TerminalError) {
      this.forget(key);
      this.#count("terminal");
      return log.error("reconcile failed for good", { key, error });
    }
    const attempt = (this.#failures.get(key) ?? 0) + 1;
    this.#failures.set(key, attempt);
    const askedMs = error instanceof ApiError ? (error.retryAfterMs ?? 0) : 0;
    this.addAfter(key, Math.max(fullJitter(attempt, this.#backoff), askedMs));
    this.#count("failed");
    log.warn("reconcile failed", { key, attempt, error });
  }

  /** Sees to it that the keys due at `atMs` are added then. */
  #setAlarm(atMs: number): void {
    const signal = this.#stop;
    if (!signal || signal.aborted || atMs === Infinity || atMs >= (this.#alarm?.atMs ?? Infinity)) {
      return;
    }
    this.#alarm?.cancel();
    const cancelled = new AbortController();
    const scope = { signal: AbortSignal.any([signal, cancelled.signal]) };
    this.#alarm = { atMs, cancel: () => cancelled.abort() };
    const sleepMs = Math.min(Math.max(atMs - this.#clock.now().getTime(), 0), maxSleepMs);
    this.#clock.sleep(sleepMs, scope).then(
      () => {
        this.#alarm = undefined;
        this.#addDue();
      },
      () => {}, // Cancelled for an earlier one, or stopping.
    );
  }

  #addDue(): void {
    const nowMs = this.#clock.now().getTime();
    let nextMs = Infinity;
    for (const [key, dueMs] of this.#due) {
      if (dueMs <= nowMs) {
        this.#due.delete(key);
        this.add(key);
      } else {
        nextMs = Math.min(nextMs, dueMs);
      }
    }
    this.#setAlarm(nextMs);
  }

  #showDepth(): void {
    this.#metrics?.depth.set({ controller: this.#name }, this.#size);
  }

  #count(result: "settled" | "requeued" | "failed" | "terminal"): void {
    this.#metrics?.reconciles.inc({ controller: this.#name, result });
  }
}
