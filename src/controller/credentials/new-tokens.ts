import type { Clock } from "#async/clock.ts";
import { TokenBucket } from "#async/token-bucket.ts";
import { putBounded } from "./bounded-map.ts";

export interface NewTokensOptions {
  clock: Clock;
  /** Whether another replica of the controller is at an address: it passes on the requests of many agents. */
  isReplica: (address: string) => boolean;
}

/** Of all senders together: so many at once, then one each so many milliseconds. */
const total = { capacity: 200, refillMs: 20 };

/** Besides, for replicas and senders whose token was good before: strangers cannot use it up. */
const reserve = { capacity: 50, refillMs: 50 };

/** Of one sender. An agent has one new token in most of an hour, and may stand behind an address of many. */
const perSender = { capacity: 40, refillMs: 100 };

/** Senders that are remembered. One that was forgotten begins anew. */
const maxSenders = 10_000;

/** How long a sender of a good token is known: longer than the kubelet keeps one (an hour). */
const knownMs = 2 * 3_600_000;

/**
 * Limits how many new tokens are reviewed: of one sender, so that it leaves the most to others, and
 * of all together, so that the API server is not pressed.
 *
 * A sender is a whole address: pods of many nodes, and of many tenants, share an IPv6 network.
 */
export class NewTokens {
  readonly #options: NewTokensOptions;
  readonly #total: TokenBucket;
  readonly #reserve: TokenBucket;
  /** By sender. Who sent last stands last. */
  readonly #senders = new Map<string, TokenBucket>();
  /** By sender, until when it is known. */
  readonly #knownUntilMs = new Map<string, number>();

  constructor(options: NewTokensOptions) {
    const { clock } = options;
    this.#options = options;
    this.#total = new TokenBucket({ ...total, clock });
    this.#reserve = new TokenBucket({ ...reserve, clock });
  }

  /** Whether a new token from an address may be reviewed now. */
  tryTake(remoteAddress: string): boolean {
    const { clock, isReplica } = this.#options;
    const sender = senderOf(remoteAddress);
    const isOurs = isReplica(sender);
    const bucket = this.#senders.get(sender) ?? new TokenBucket({ ...perSender, clock });
    if (!isOurs) putBounded(this.#senders, sender, { value: bucket, max: maxSenders });
    const own = isOurs ? [] : [bucket];
    if (TokenBucket.tryTakeEach([...own, this.#total])) return true;
    return (isOurs || this.#isKnown(sender)) && TokenBucket.tryTakeEach([...own, this.#reserve]);
  }

  /** Remembers that a token from an address was good. */
  welcome(remoteAddress: string): void {
    putBounded(this.#knownUntilMs, senderOf(remoteAddress), {
      value: this.#nowMs() + knownMs,
      max: maxSenders,
    });
  }

  #isKnown(sender: string): boolean {
    return (this.#knownUntilMs.get(sender) ?? 0) > this.#nowMs();
  }

  #nowMs(): number {
    return this.#options.clock.now().getTime();
  }
}

/** An IPv4 address is the same one in its form in IPv6. */
function senderOf(remoteAddress: string): string {
  return /^::ffff:([\d.]+)$/i.exec(remoteAddress)?.[1] ?? remoteAddress;
}
