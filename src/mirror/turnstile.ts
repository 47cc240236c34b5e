interface Waiter {
  /** Whoever came first has the lowest. */
  readonly number: number;
  readonly signal: AbortSignal;
  readonly enter: () => void;
  readonly giveUp: (reason: unknown) => void;
}

/** Those for whom there is room at the same moment, in the order they came. */
interface Line<T> {
  readonly of: T;
  readonly waiters: Set<Waiter>;
}

export interface TurnstileOptions<T> {
  /** The same for all for whom there is room at the same moment. */
  readonly keyOf: (of: T) => string;
  readonly hasRoom: (of: T) => boolean;
  /** Told of each that enters (1) and leaves (-1). */
  readonly count: (of: T, change: 1 | -1) => void;
}

/** Lets waiters in, in the order they came; those for whom there is no room let others pass. */
export class Turnstile<T> {
  readonly #options: TurnstileOptions<T>;
  readonly #lines = new Map<string, Line<T>>();
  readonly #watched = new WeakSet<AbortSignal>();
  #lastNumber = 0;

  constructor(options: TurnstileOptions<T>) {
    this.#options = options;
  }

  /**
   * Waits until there is room. Disposing what it returns makes room again.
   *
   * @throws the signal's reason, if aborted while waiting.
   */
  async acquire(of: T, { signal }: { signal: AbortSignal }): Promise<Disposable> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const number = ++this.#lastNumber;
    this.#watch(signal);
    this.#join(of, { number, signal, enter: resolve, giveUp: reject });
    this.admit();
    await promise;
    return {
      [Symbol.dispose]: () => {
        this.#options.count(of, -1);
        this.admit();
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

  #join(of: T, waiter: Waiter): void {
    const key = this.#options.keyOf(of);
    const line = this.#lines.get(key) ?? { of, waiters: new Set() };
    this.#lines.set(key, line);
    line.waiters.add(waiter);
  }

  #leave({ of, waiters }: Line<T>, waiter: Waiter): void {
    waiters.delete(waiter);
    if (waiters.size === 0) this.#lines.delete(this.#options.keyOf(of));
  }

  /** Lets in all for whom there is room. To be called when there is more for another reason than that one leaves. */
  admit(): void {
    for (;;) {
      const next = this.#next();
      if (!next) return;
      this.#leave(next.line, next.waiter);
      this.#options.count(next.line.of, 1);
      next.waiter.enter();
    }
  }

  /** Of those at the head of a line who may enter, the one who came first. */
  #next(): { line: Line<T>; waiter: Waiter } | undefined {
    let next: { line: Line<T>; waiter: Waiter } | undefined;
    for (const line of this.#lines.values()) {
      const [waiter] = line.waiters;
      if (!waiter || (next && next.waiter.number < waiter.number)) continue;
      if (this.#options.hasRoom(line.of)) next = { line, waiter };
    }
    return next;
  }
}
