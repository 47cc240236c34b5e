import { Semaphore } from "#async/semaphore.ts";
import type { Clock } from "#async/clock.ts";

/** Registries are replaced by newer versions now and then. */
const rememberMs = 24 * 60 * 60_000;

/** What repositories of one client tell one another. */
export class SharedKnowledge {
  readonly #clock: Clock;
  readonly #locks = new Map<string, { readonly slot: Semaphore; users: number }>();
  /** When a registry had no API for referrers. */
  readonly #withoutReferrers = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether a registry is known to have no API for referrers. */
  lacksReferrers(registry: string): boolean {
    const sinceMs = this.#withoutReferrers.get(registry);
    return sinceMs !== undefined && this.#nowMs() - sinceMs < rememberMs;
  }

  noteLackOfReferrers(registry: string): void {
    this.#withoutReferrers.set(registry, this.#nowMs());
  }

  /** Waits until nobody else has the lock of that name. Disposing gives it back. */
  async lock(name: string, { signal }: { signal: AbortSignal }): Promise<Disposable> {
    const lock = this.#locks.getOrInsertComputed(name, () => ({
      slot: new Semaphore(1),
      users: 0,
    }));
    lock.users++;
    const leave = (): void => {
      lock.users--;
      if (lock.users === 0) this.#locks.delete(name);
    };
    try {
      const held = await lock.slot.acquire({ signal });
      return {
        [Symbol.dispose]: () => {
          held[Symbol.dispose]();
          leave();
        },
      };
    } catch (error) {
      leave();
      throw error;
    }
  }

  #nowMs(): number {
    return this.#clock.now().getTime();
  }
}
