import { Tally } from "./tally.ts";
import { Turnstile } from "./turnstile.ts";

/** On whose behalf something is done, the largest first, like the namespace and the Mirror. */
export type Parties = readonly string[];

/**
 * Caps how many holders are inside at once. A party that has nothing inside enters even where all is taken,
 * as long as the cap is not passed by once more for each such party: who has much under way, or something
 * slow, delays no one else.
 */
export class FairSlots {
  readonly #slots: number;
  readonly #tally = new Tally();
  readonly #turnstile: Turnstile<Parties>;

  constructor(slots: number) {
    this.#slots = slots;
    this.#turnstile = new Turnstile({
      keyOf: (parties) => JSON.stringify(parties),
      hasRoom: (parties) => this.#tally.total < this.#slots * shareOf(parties, this.#tally),
      count: (parties, change) => this.#tally.count(parties, change),
    });
  }

  /**
   * Waits for a slot. Disposing the returned handle gives it back.
   *
   * @throws the signal's reason, if aborted while waiting.
   */
  async acquire({
    parties,
    signal,
  }: {
    parties: Parties;
    signal: AbortSignal;
  }): Promise<Disposable> {
    return await this.#turnstile.acquire(parties, { signal });
  }
}

/** How many times a bound may be filled when these enter: once more for each that has nothing inside. */
export function shareOf(parties: Parties, inside: Tally): number {
  return 1 + parties.filter((party) => inside.of(party) === 0).length;
}
