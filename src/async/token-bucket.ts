import type { Clock } from "./clock.ts";

/**
 * Limits a rate: `capacity` tokens at first, one more every `refillMs`, never over `capacity`.
 *
 * ```ts
 * const reports = new TokenBucket({ capacity: 2, refillMs: 2_000, clock });
 * await reports.take({ signal }); // Two at once, then one every two seconds.
 * ```
 */
export class TokenBucket {
  readonly #refillMs: number;
  readonly #burstMs: number;
  readonly #clock: Clock;
  #waiting = 0;

  /** When the bucket will be full again. The whole state (GCRA's theoretical arrival time). */
  #fullAtMs = -Infinity;

  constructor(options: { capacity: number; refillMs: number; clock: Clock }) {
    this.#refillMs = options.refillMs;
    this.#burstMs = options.capacity * options.refillMs;
    this.#clock = options.clock;
  }

  /**
   * Takes a token, waiting for it in the order of the calls.
   *
   * @throws the signal's reason, if aborted while waiting. The token then goes back.
   */
  async take({ signal }: { signal: AbortSignal }): Promise<void> {
    signal.throwIfAborted();
    const waitMs = this.#reserve();
    if (waitMs <= 0) return;
    this.#waiting++;
    try {
      await this.#clock.sleep(waitMs, { signal });
    } catch (error) {
      this.#giveBack();
      signal.throwIfAborted();
      throw error;
    } finally {
      this.#waiting--;
    }
  }

  /** Takes a token if one is there, without waiting. */
  tryTake(): boolean {
    const taken = this.#reserve() <= 0;
    if (!taken) this.#giveBack();
    return taken;
  }

  /** Takes a token of each bucket if all of them have one, and else of none, without waiting. */
  static tryTakeEach(buckets: readonly TokenBucket[]): boolean {
    const taken: TokenBucket[] = [];
    for (const bucket of buckets) {
      if (bucket.tryTake()) {
        taken.push(bucket);
        continue;
      }
      for (const each of taken) each.#giveBack();
      return false;
    }
    return true;
  }

  /** Takes the next token, due now or later, and says in how many milliseconds it is due. */
  #reserve(): number {
    const nowMs = this.#clock.now().getTime();
    // A clock that was set back must not make the next token hours away.
    const latestMs = nowMs + this.#burstMs + this.#waiting * this.#refillMs;
    const fullAtMs = Math.min(Math.max(this.#fullAtMs, nowMs), latestMs);
    this.#fullAtMs = fullAtMs + this.#refillMs;
    return this.#fullAtMs - this.#burstMs - nowMs;
  }

  #giveBack(): void {
    this.#fullAtMs -= this.#refillMs;
  }
}
