import type { Clock } from "#async/clock.ts";
import { isAbort } from "#async/abort.ts";
import { nextPull, type PullRequest, type RunningPull } from "./fair-share.ts";
import type { AgentMetrics } from "./metrics.ts";
import { longestWaitMs } from "./tracked-image.ts";
import { Wake } from "./wake.ts";

export interface PullQueueOptions {
  /** Pulls at the same time. */
  concurrency: number;
  clock: Clock;
  metrics: Pick<AgentMetrics, "pullsInFlight" | "queueDepth" | "pullsInBackoff">;
  /**
   * Pulls, and before it resolves, sees to it that the reference waits no longer, or not before
   * its backoff. It deals with failures by itself and only rejects when aborted.
   */
  pull(reference: string, options: { signal: AbortSignal }): Promise<void>;
}

interface Pulling extends RunningPull {
  readonly stop: AbortController;
  readonly settled: Promise<void>;
}

/**
 * Carries out pulls: at most `concurrency` at once, one per reference at a time, in the order of
 * `nextPull`.
 *
 * It is level-based: it is told everything that waits, again and again, and keeps no failures and
 * no history. A reference that is told to wait while it is being pulled is pulled again afterwards,
 * if it is still told then.
 */
export class PullQueue {
  readonly #options: PullQueueOptions;
  readonly #wake: Wake;
  readonly #running = new Map<string, Pulling>();
  readonly #lastTurns = new Map<string, number>();
  #waiting: readonly PullRequest[] = [];
  #isHeld = false;
  #turns = 0;

  constructor(options: PullQueueOptions) {
    this.#options = options;
    this.#wake = new Wake(options.clock);
  }

  /**
   * Replaces all that waits.
   *
   * @param options.isHeld - whether no pull may begin now. Running ones go on.
   * @param options.isOwed - whether a reference that is being pulled is still wanted. If not, the
   * pull is aborted; its slot is free when it has ended.
   */
  replace(
    waiting: readonly PullRequest[],
    options: { isHeld: boolean; isOwed: (reference: string) => boolean },
  ): void {
    this.#waiting = waiting;
    this.#isHeld = options.isHeld;
    for (const { reference, stop } of this.#running.values()) {
      if (!options.isOwed(reference)) stop.abort(new Error("The image is no longer owed"));
    }
    this.#forgetTurns();
    this.#wake.notify();
  }

  /** Works until aborted; then aborts every pull and returns when they have ended. */
  async run(signal: AbortSignal): Promise<void> {
    try {
      for (;;) {
        this.#startDue();
        this.#count();
        await this.#wake.wait({ signal, timeoutMs: this.#untilNextDueMs() });
      }
    } catch (error) {
      if (!isAbort(error, signal)) throw error;
    } finally {
      for (const { stop } of this.#running.values()) stop.abort(signal.reason);
      await Promise.allSettled([...this.#running.values()].map(({ settled }) => settled));
    }
  }

  #startDue(): void {
    const { concurrency, clock } = this.#options;
    while (!this.#isHeld) {
      const next = nextPull(this.#waiting, {
        running: [...this.#running.values()],
        concurrency,
        lastTurns: this.#lastTurns,
        nowMs: clock.now().getTime(),
      });
      if (!next) return;
      this.#start(next.request, next.namespace);
    }
  }

  #start({ reference, host, isRetry }: PullRequest, namespace: string): void {
    this.#lastTurns.set(namespace, ++this.#turns);
    const stop = new AbortController();
    const settled = this.#pull(reference, stop.signal);
    this.#running.set(reference, { reference, host, namespace, isRetry, stop, settled });
  }

  async #pull(reference: string, signal: AbortSignal): Promise<void> {
    try {
      await this.#options.pull(reference, { signal });
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      this.#running.delete(reference);
      this.#wake.notify();
    }
  }

  #count(): void {
    const { metrics, clock } = this.#options;
    const nowMs = clock.now().getTime();
    const waiting = this.#waiting.filter(({ reference }) => !this.#running.has(reference));
    metrics.pullsInFlight.set({}, this.#running.size);
    metrics.queueDepth.set({}, waiting.length);
    metrics.pullsInBackoff.set({}, waiting.filter(({ dueMs }) => dueMs > nowMs).length);
  }

  #untilNextDueMs(): number | undefined {
    if (this.#isHeld || this.#running.size >= this.#options.concurrency) return undefined;
    const nowMs = this.#options.clock.now().getTime();
    const dueMs = this.#waiting.map((request) => request.dueMs).filter((due) => due > nowMs);
    return dueMs.length === 0 ? undefined : Math.min(longestWaitMs, Math.min(...dueMs) - nowMs);
  }

  /** Forgets namespaces that want nothing, so that the map stays as small as what waits. */
  #forgetTurns(): void {
    const names = new Set(this.#waiting.flatMap(({ namespaces }) => namespaces));
    for (const { namespace } of this.#running.values()) names.add(namespace);
    for (const namespace of this.#lastTurns.keys()) {
      if (!names.has(namespace)) this.#lastTurns.delete(namespace);
    }
  }
}
