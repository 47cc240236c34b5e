import type { Clock } from "#async/clock.ts";
import { TokenBucket } from "#async/token-bucket.ts";

/** Of all senders together: so many at once, then one each so many milliseconds. */
const total = { capacity: 200, refillMs: 20 };

/** Of one sender. An agent has one new token in most of an hour, and may stand behind an address of many. */
const perSender = { capacity: 40, refillMs: 100 };

/** Senders that are remembered. One that was forgotten begins anew. */
const maxSenders = 10_000;

/**
 * Limits how many new tokens are reviewed: of one sender, so that it leaves the most to others, and
 * of all together, so that the API server is not pressed.
 */
export class NewTokens {
  readonly #clock: Clock;
  readonly #total: TokenBucket;
  /** By sender. Who sent last stands last. */
  readonly #senders = new Map<string, TokenBucket>();

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#total = new TokenBucket({ ...total, clock });
  }

  /** Whether a new token from an address may be reviewed now. */
  tryTake(remoteAddress: string): boolean {
    const sender = senderOf(remoteAddress);
    const bucket =
      this.#senders.get(sender) ?? new TokenBucket({ ...perSender, clock: this.#clock });
    this.#senders.delete(sender);
    this.#senders.set(sender, bucket);
    const [oldest] = this.#senders.keys();
    if (this.#senders.size > maxSenders && oldest !== undefined) this.#senders.delete(oldest);
    return bucket.tryTake() && this.#total.tryTake();
  }
}

/** The IPv4 address, or the first half of an IPv6 address: who has one such network has all of it. */
function senderOf(remoteAddress: string): string {
  const mapped = /^::ffff:([\d.]+)$/i.exec(remoteAddress)?.[1];
  if (mapped !== undefined || !remoteAddress.includes(":")) return mapped ?? remoteAddress;
  const [left = [], right = []] = remoteAddress
    .split("::")
    .map((half) => half.split(":").filter((group) => group !== ""));
  const zeros = Array<string>(Math.max(8 - left.length - right.length, 0)).fill("0");
  return [...left, ...zeros, ...right].slice(0, 4).join(":");
}
