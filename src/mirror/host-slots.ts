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
  perTarget: 32,
  blobsPerSource: 8,
};

/** From which host to which one. Who calls it decides what is one host: perhaps host and login. */
export interface Hosts {
  readonly source: string;
  readonly target: string;
}

interface Waiter extends Hosts {
  readonly enter: () => void;
}

/**
 * Caps how many tags are copied at the same time: in all, from one host, and to one host. Share one within
 * a process.
 *
 * Waiters enter in the order they came, except that those whose host is busy let others pass: a registry
 * that is slow delays nobody but its own.
 */
export class HostSlots {
  readonly #bounds: HostBounds;
  readonly #waiting: Waiter[] = [];
  readonly #busy = new Map<string, number>();
  readonly #blobs = new Map<string, Semaphore>();

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
  async acquire(
    { source, target }: Hosts,
    { signal }: { signal: AbortSignal },
  ): Promise<Disposable> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter: Waiter = { source, target, enter: resolve };
    const onAbort = (): void => {
      const place = this.#waiting.indexOf(waiter);
      if (place < 0) return; // It has just entered, and whoever has it will give it back.
      this.#waiting.splice(place, 1);
      reject(signal.reason);
    };
    this.#waiting.push(waiter);
    signal.addEventListener("abort", onAbort, { once: true });
    this.#admit();
    try {
      await promise;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
    return {
      [Symbol.dispose]: () => {
        this.#count(waiter, -1);
        this.#admit();
      },
    };
  }

  #admit(): void {
    for (const waiter of this.#waiting.slice()) {
      if (this.#busyAt("total") >= this.#bounds.total) return;
      if (!this.#hasRoom(waiter)) continue;
      this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
      this.#count(waiter, 1);
      waiter.enter();
    }
  }

  #hasRoom({ source, target }: Hosts): boolean {
    const { perSource, perTarget } = this.#bounds;
    return this.#busyAt(`from ${source}`) < perSource && this.#busyAt(`to ${target}`) < perTarget;
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
