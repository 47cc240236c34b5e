import { hash } from "node:crypto";

import type { Clock } from "#async/clock.ts";
import type { BudgetAccount, BudgetExchange, BudgetLink } from "./budget-exchange.ts";
import {
  afterAnswer,
  afterHearsay,
  afterLoss,
  readinessOf,
  unasked,
  unlimited,
  type RateState,
} from "./rate-limit.ts";

/**
 * Reading and writing have slots apart: whoever reads in order to write must not wait for himself. Uploads of
 * blobs have their own, too: they last, and nobody's manifest waits for them.
 */
export type Lane = "read" | "write" | "upload";

export interface BudgetsOptions {
  readonly clock: Clock;
  /** How many requests to one host may be on their way at once, in each lane: 16 if not given; and one of each login. */
  readonly maxParallel?: number;
  readonly random?: () => number;
  /** With other processes that use the same logins: nobody if not given. */
  readonly exchange?: BudgetExchange | undefined;
}

/** Who wants to send a request. */
export interface Entry extends BudgetAccount {
  readonly lane: Lane;
  /** Whether the registry counts such requests. What it asks by `Retry-After` concerns all. */
  readonly counts: boolean;
  /** Goes on with something that had a slot, and waits for none. */
  readonly isResumed?: boolean;
  readonly signal: AbortSignal;
  /** Told when it has to wait, in milliseconds since 1970 until when; `undefined` when that is over. */
  readonly onThrottled?: ((untilMs: number | undefined) => void) | undefined;
}

/** Leave to send one request. Disposing it gives the slot back. */
export interface Permit extends Disposable {
  /** Tells what the registry answered. */
  answered(answer: {
    readonly status: number;
    readonly header: (name: string) => string | undefined;
    readonly isThrottled: boolean;
  }): void;
}

/**
 * Keeps what registries ask for: one budget for each host and login, and a bound on the requests
 * that are on their way to a host.
 *
 * While a budget is spent, none of its requests is sent. Whoever waits goes in the order of coming,
 * and one login's wait holds up no other's: a login that has no request on its way waits for no other's
 * to end, which may be large blobs. Clients that share it share the budgets.
 */
export class Budgets {
  readonly #options: Required<BudgetsOptions>;
  readonly #gates = new Map<string, HostGate>();

  constructor(options: BudgetsOptions) {
    const { clock, maxParallel = 16, random = Math.random, exchange } = options;
    this.#options = { clock, maxParallel, random, exchange };
  }

  /**
   * Waits until a request may be sent.
   *
   * @throws the signal's reason, if aborted.
   */
  async enter(entry: Entry): Promise<Permit> {
    entry.signal.throwIfAborted();
    return this.#gateOf(entry.host).enter(entry);
  }

  /** The hosts with a spent budget that somebody waits for, and until when, in milliseconds since 1970. */
  get throttled(): ReadonlyMap<string, number> {
    const found = [...this.#gates].map(([host, gate]) => [host, gate.throttledUntilMs] as const);
    return new Map(found.filter((entry): entry is [string, number] => entry[1] !== undefined));
  }

  #gateOf(host: string): HostGate {
    const known = this.#gates.get(host);
    if (known) return known;
    for (const [other, gate] of this.#gates) if (gate.sweep()) this.#gates.delete(other);
    const gate = new HostGate(this.#options);
    this.#gates.set(host, gate);
    return gate;
  }
}

/** What is known of one login at one host. */
interface Account {
  state: RateState;
  readonly link: BudgetLink | undefined;
  /** Requests that the registry counts, and has not answered. */
  pending: number;
  /** Requests that wait or are on their way. */
  users: number;
  /** Those that are on their way. */
  readonly inside: Record<Lane, number>;
}

interface Waiter {
  readonly entry: Entry;
  readonly account: Account;
  readonly grant: () => void;
  /** What it was told last. */
  untilMs: number | undefined;
}

/** All that goes to one host. */
class HostGate {
  readonly #options: Required<BudgetsOptions>;
  readonly #accounts = new Map<string, Account>();
  readonly #waiting = new Set<Waiter>();
  readonly #inside = { read: 0, write: 0, upload: 0 };
  #nextRequest = 1;
  #timer: AbortController | undefined;

  constructor(options: Required<BudgetsOptions>) {
    this.#options = options;
  }

  /** Forgets logins that nobody uses and of which there is nothing to be known. @returns whether none is left. */
  sweep(): boolean {
    for (const [name, { users, state, link }] of this.#accounts) {
      const isBlank = this.#nowMs() >= Math.max(state.heldUntilMs, state.resetsAtMs);
      if (users > 0 || !isBlank) continue;
      this.#accounts.delete(name);
      link?.[Symbol.dispose]();
    }
    return this.#accounts.size === 0;
  }

  get throttledUntilMs(): number | undefined {
    const times = [...this.#waiting].flatMap(({ untilMs }) => untilMs ?? []);
    return times.length > 0 ? Math.max(...times) : undefined;
  }

  async enter(entry: Entry): Promise<Permit> {
    const { signal, onThrottled } = entry;
    const account = this.#accountOf(entry);
    account.users++;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter: Waiter = { entry, account, grant: resolve, untilMs: undefined };
    const onAbort = (): void => {
      if (!this.#waiting.delete(waiter)) return;
      reject(signal.reason);
      this.#pump();
    };
    this.#waiting.add(waiter);
    signal.addEventListener("abort", onAbort, { once: true });
    this.#pump();
    try {
      await promise;
    } catch (error) {
      account.users--;
      throw error;
    } finally {
      signal.removeEventListener("abort", onAbort);
      if (waiter.untilMs !== undefined) onThrottled?.(undefined);
    }
    return this.#permit(entry, account);
  }

  #accountOf({ host, login }: BudgetAccount): Account {
    const name = login ? hash("sha256", JSON.stringify(login)) : "anybody";
    const known = this.#accounts.get(name);
    if (known) return known;
    this.sweep();
    const { exchange } = this.#options;
    const link = exchange?.join({
      host,
      login,
      known: () => account.state,
      learn: (told) => {
        account.state = afterHearsay(account.state, told, this.#nowMs());
        this.#pump();
      },
    });
    const state = exchange ? unasked(this.#nowMs()) : unlimited;
    const account: Account = {
      state,
      link,
      pending: 0,
      users: 0,
      inside: { read: 0, write: 0, upload: 0 },
    };
    this.#accounts.set(name, account);
    return account;
  }

  #permit({ lane, counts }: Entry, account: Account): Permit {
    const request = this.#nextRequest++;
    let isPending = counts;
    let isInside = true;
    const settle = (): void => {
      if (isPending) account.pending--;
      isPending = false;
    };
    return {
      answered: (answer) => {
        settle();
        const before = account.state;
        account.state = afterAnswer(
          before,
          { ...answer, request, nextRequest: this.#nextRequest },
          { nowMs: this.#nowMs(), random: this.#options.random },
        );
        if (differ(before, account.state)) account.link?.changed();
        this.#pump();
      },
      [Symbol.dispose]: () => {
        if (!isInside) return;
        isInside = false;
        if (isPending) account.state = afterLoss(account.state, this.#nowMs());
        settle();
        this.#inside[lane]--;
        account.inside[lane]--;
        account.users--;
        this.#pump();
      },
    };
  }

  /** Lets in, in the order of coming, whoever may go now, and sees to it that the others are looked at again. */
  #pump(): void {
    const nowMs = this.#nowMs();
    const shareOf = (left: number): number => this.#options.exchange?.shareOf(left) ?? left;
    let wakeAtMs = Infinity;
    for (const waiter of this.#waiting) {
      const { entry, account } = waiter;
      const { lane, counts, isResumed = false, onThrottled } = entry;
      const { state, pending } = account;
      const readiness = readinessOf(state, { nowMs, pending, counts, shareOf });
      if (typeof readiness === "object") {
        wakeAtMs = Math.min(wakeAtMs, readiness.untilMs);
        if (waiter.untilMs === readiness.untilMs) continue;
        waiter.untilMs = readiness.untilMs;
        onThrottled?.(readiness.untilMs);
        continue;
      }
      const isFull = this.#inside[lane] >= this.#options.maxParallel && account.inside[lane] > 0;
      if (readiness === "after-answers" || (isFull && !isResumed)) continue;
      this.#waiting.delete(waiter);
      this.#inside[lane]++;
      account.inside[lane]++;
      if (counts) account.pending++;
      waiter.grant();
    }
    this.#wakeAt(wakeAtMs, nowMs);
  }

  #wakeAt(timeMs: number, nowMs: number): void {
    this.#timer?.abort();
    this.#timer = undefined;
    if (timeMs === Infinity) return;
    const timer = new AbortController();
    this.#timer = timer;
    this.#options.clock.sleep(timeMs - nowMs, { signal: timer.signal }).then(
      () => this.#pump(),
      () => {}, // Somebody else looks again, or nobody waits any more.
    );
  }

  #nowMs(): number {
    return this.#options.clock.now().getTime();
  }
}

/** Whether a registry has said something else than before. */
function differ(a: RateState, b: RateState): boolean {
  return a.heldUntilMs !== b.heldUntilMs || a.left !== b.left || a.resetsAtMs !== b.resetsAtMs;
}
