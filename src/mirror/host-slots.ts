import { Semaphore } from "#async/semaphore.ts";

/** How much may be going on at the same time. */
export interface HostBounds {
  /** Tags in all. */
  readonly total: number;
  /** Tags of one source's host. */
  readonly perSource: number;
  /** Tags to one target's host. */
  readonly perTarget: number;
  /** Blobs from one source's host. */
  readonly blobsPerSource: number;
}

/** Tags mostly wait for blobs, so there are more of them. */
export const defaultBounds: HostBounds = {
  total: 64,
  perSource: 16,
  perTarget: 64,
  blobsPerSource: 8,
};

/** Which part of `total` and of `perTarget` one source's host may have, so that slow ones leave room. */
const maxShare = 1 / 4;

/** How far `total` and `perTarget` may be passed for sources' hosts that have nothing under way. */
const maxExcess = 2;

/** From which host to which one. Who calls it decides what is one host: perhaps host and login. */
export interface Hosts {
  readonly source: string;
  readonly target: string;
}

interface Waiter {
  /** Whoever came first has the lowest. */
  readonly number: number;
  readonly signal: AbortSignal;
  readonly enter: () => void;
  readonly giveUp: (reason: unknown) => void;
}

/** Those who wait for the same hosts, in the order they came. */
interface Line extends Hosts {
  readonly waiters: Set<Waiter>;
}

/**
 * Caps how many tags are copied at the same time: in all, from one host, and to one host. Share one within
 * a process.
 *
 * Waiters enter in the order they came, except that those whose host is busy let others pass: a registry
 * that is slow delays nobody but its own. No source's host gets more than a quarter of what there is, and
 * one that has nothing under way enters even where all is taken, up to twice the bounds.
 */
export class HostSlots {
  readonly #bounds: HostBounds;
  readonly #lines = new Map<string, Line>();
  readonly #busy = new Map<string, number>();
  readonly #blobs = new Map<string, Semaphore>();
  readonly #watched = new WeakSet<AbortSignal>();
  #lastNumber = 0;

  constructor(bounds: Partial<HostBounds> = {}) {
    this.#bounds = { ...defaultBounds, ...bounds };
  }

  /** The slots for blobs of a source's host. */
  blobSlots(source: string): Semaphore {
    const slots = this.#blobs.get(source) ?? new Semaphore(this.#bounds.blobsPerSource);
    this.#blobs.set(source, slots);
    return slots;
  }

  /**
   * Waits until both hosts have room for one more tag. Disposing what it returns makes room again.
   *
   * @throws the signal's reason, if aborted while waiting.
   */
  async acquire(hosts: Hosts, { signal }: { signal: AbortSignal }): Promise<Disposable> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const number = ++this.#lastNumber;
    this.#watch(signal);
    this.#join(hosts, { number, signal, enter: resolve, giveUp: reject });
    this.#admit();
    await promise;
    return {
      [Symbol.dispose]: () => {
        this.#count(hosts, -1);
        this.#admit();
      },
    };
  }

  /** One listener for all who wait: to add one takes the longer the more a signal has. */
  #watch(signal: AbortSignal): void {
    if (this.#watched.has(signal)) return;
    this.#watched.add(signal);
    signal.addEventListener("abort", () => this.#turnAway(signal), { once: true });
  }

  #turnAway(signal: AbortSignal): void {
    for (const line of this.#lines.values()) {
      for (const waiter of line.waiters) {
        if (waiter.signal !== signal) continue;
        this.#leave(line, waiter);
        waiter.giveUp(signal.reason);
      }
    }
  }

  #join({ source, target }: Hosts, waiter: Waiter): void {
    const key = lineKey({ source, target });
    const line = this.#lines.get(key) ?? { source, target, waiters: new Set() };
    this.#lines.set(key, line);
    line.waiters.add(waiter);
  }

  #leave(line: Line, waiter: Waiter): void {
    line.waiters.delete(waiter);
    if (line.waiters.size === 0) this.#lines.delete(lineKey(line));
  }

  #admit(): void {
    for (;;) {
      const next = this.#next();
      if (!next) return;
      this.#leave(next.line, next.waiter);
      this.#count(next.line, 1);
      next.waiter.enter();
    }
  }

  /** Of those at the head of a line who may enter, the one who came first. */
  #next(): { line: Line; waiter: Waiter } | undefined {
    let next: { line: Line; waiter: Waiter } | undefined;
    for (const line of this.#lines.values()) {
      const [waiter] = line.waiters;
      if (!waiter || (next && next.waiter.number < waiter.number)) continue;
      if (this.#hasRoom(line)) next = { line, waiter };
    }
    return next;
  }

  #hasRoom({ source, target }: Hosts): boolean {
    const { total, perSource, perTarget } = this.#bounds;
    const ofSource = this.#busyAt(`from ${source}`);
    const excess = ofSource === 0 ? maxExcess : 1;
    return (
      ofSource < Math.min(perSource, shareOf(perTarget), shareOf(total)) &&
      this.#busyAt("total") < total * excess &&
      this.#busyAt(`to ${target}`) < perTarget * excess
    );
  }

  #busyAt(key: string): number {
    return this.#busy.get(key) ?? 0;
  }

  #count({ source, target }: Hosts, change: 1 | -1): void {
    for (const key of ["total", `from ${source}`, `to ${target}`]) {
      const busy = this.#busyAt(key) + change;
      if (busy === 0) this.#busy.delete(key);
      else this.#busy.set(key, busy);
    }
  }
}

function lineKey({ source, target }: Hosts): string {
  return `${source} ${target}`;
}

function shareOf(bound: number): number {
  return Math.max(1, Math.floor(bound * maxShare));
}
