import { isAbort } from "#async/abort.ts";
import type { Clock } from "#async/clock.ts";
import type { Slot, SlotSource } from "./slots.ts";

/** What an agent tells the controller of its slots. */
export interface SlotStatement {
  readonly hold: readonly string[];
  readonly want: readonly string[];
  /** Grows with each statement, also over restarts. */
  readonly sequence: number;
}

/** What the controller answers. */
export interface SlotVerdict {
  readonly granted: boolean;
  readonly retryAfterMs: number;
  /** Plans of those held that it has given to others. */
  readonly lost: readonly string[];
}

export interface HeldSlotsOptions {
  /** Tells the controller, in a few seconds at most. @throws if it cannot be told. */
  state: (statement: SlotStatement, options: { signal: AbortSignal }) => Promise<SlotVerdict>;
  clock: Clock;
  /** A clock that is never set. */
  monotonicMs?: () => number;
}

/** Well under the time for which the controller keeps a slot, so that one or two may be missed. */
const renewEveryMs = 10_000;
const renewAgainMs = 2_000;

/**
 * How long after the last statement that was heard a slot is ours. The controller keeps it for 40 s
 * from when it heard it, which is later: what is lost here has ended before another node begins.
 */
const keptMs = 35_000;

/** For so long, one pull after another may go on with a slot. Then others have their turn. */
const tenureMs = 5 * 60_000;

/** How long to wait for the controller to hear that nothing is held, when the process ends. */
const farewellMs = 2_000;

interface HeldPlan {
  /** One for each pull that goes on with it: aborted when it is lost. */
  readonly users: Set<AbortController>;
  readonly sinceMs: number;
}

/**
 * The slots that this node holds. All pulls of one plan go on with one slot, which is renewed while
 * any of them does. Statements are made one after the other, and each says everything that is held.
 */
export class HeldSlots implements SlotSource, AsyncDisposable {
  readonly #state: HeldSlotsOptions["state"];
  readonly #clock: Clock;
  readonly #monotonicMs: () => number;
  readonly #life = new AbortController();
  readonly #held = new Map<string, HeldPlan>();
  /** By set of plans, until when the controller need not be asked again. */
  readonly #deniedUntilMs = new Map<string, number>();
  #turn: Promise<unknown> = Promise.resolve();
  #sequence = 0;
  /** When the last statement was sent that was heard. */
  #heardMs = 0;
  #isKeeping = false;

  constructor({ state, clock, monotonicMs = () => performance.now() }: HeldSlotsOptions) {
    this.#state = state;
    this.#clock = clock;
    this.#monotonicMs = monotonicMs;
  }

  async acquire(
    plans: readonly string[],
    { signal }: { signal: AbortSignal },
  ): Promise<Slot | { readonly retryAfterMs: number }> {
    signal.throwIfAborted();
    const key = plans.toSorted().join(" ");
    const asking = this.#inTurn(() => this.#ask(plans, key));
    const left = Promise.withResolvers<never>();
    const leave = (): void => left.reject(signal.reason);
    signal.addEventListener("abort", leave, { once: true });
    try {
      return await Promise.race([asking, left.promise]);
    } catch (error) {
      // It may yet be granted, and nobody would hold it.
      asking.then(letGo, () => {});
      throw error;
    } finally {
      signal.removeEventListener("abort", leave);
    }
  }

  /** Lets every slot go and tells the controller, if it listens. */
  async [Symbol.asyncDispose](): Promise<void> {
    const hadSome = this.#held.size > 0;
    this.#lose([...this.#held.keys()], new Error("The agent ends"));
    this.#life.abort(new Error("The agent ends"));
    await this.#turn;
    if (!hadSome) return;
    const signal = AbortSignal.timeout(farewellMs);
    await this.#state({ hold: [], want: [], sequence: this.#next() }, { signal }).catch(() => {});
  }

  async #ask(plans: readonly string[], key: string): Promise<Slot | { retryAfterMs: number }> {
    const nowMs = this.#monotonicMs();
    if (plans.every((plan) => this.#isInTenure(plan, nowMs))) return this.#use(plans, nowMs);
    const deniedMs = (this.#deniedUntilMs.get(key) ?? 0) - nowMs;
    if (deniedMs > 0) return { retryAfterMs: deniedMs };
    const { granted, retryAfterMs } = await this.#tell(plans);
    if (granted) return this.#use(plans, nowMs);
    for (const [other, untilMs] of this.#deniedUntilMs) {
      if (untilMs <= nowMs) this.#deniedUntilMs.delete(other);
    }
    this.#deniedUntilMs.set(key, nowMs + retryAfterMs);
    return { retryAfterMs };
  }

  #isInTenure(plan: string, nowMs: number): boolean {
    const held = this.#held.get(plan);
    return held !== undefined && nowMs - held.sinceMs < tenureMs;
  }

  #use(plans: readonly string[], nowMs: number): Slot {
    const user = new AbortController();
    for (const plan of plans) {
      const held = this.#held.get(plan);
      const isFresh = held !== undefined && this.#isInTenure(plan, nowMs);
      const sinceMs = isFresh ? held.sinceMs : nowMs;
      const users = held?.users ?? new Set<AbortController>();
      this.#held.set(plan, { users: users.add(user), sinceMs });
    }
    if (!this.#isKeeping) void this.#keep();
    return {
      lost: user.signal,
      [Symbol.asyncDispose]: async () => this.#release(user, plans),
    };
  }

  /** Nobody waits for the controller to hear of it: if it does not, the slot runs out there. */
  #release(user: AbortController, plans: readonly string[]): void {
    let isFree = false;
    for (const plan of plans) {
      const held = this.#held.get(plan);
      if (!held?.users.delete(user) || held.users.size > 0) continue;
      this.#held.delete(plan);
      isFree = true;
    }
    if (isFree && !this.#life.signal.aborted) this.#inTurn(() => this.#tell([])).catch(() => {});
  }

  /** Keeps what is held, and gives it up in time if it cannot. Runs while something is held. */
  async #keep(): Promise<void> {
    this.#isKeeping = true;
    const { signal } = this.#life;
    let renewMs = this.#monotonicMs() + renewEveryMs;
    let renewing = false;
    try {
      while (this.#held.size > 0) {
        const nowMs = this.#monotonicMs();
        const leftMs = this.#heardMs + keptMs - nowMs;
        if (leftMs <= 0) {
          this.#lose([...this.#held.keys()], new Error("The slot could not be renewed in time"));
          break;
        }
        if (nowMs >= renewMs && !renewing) {
          renewing = true;
          renewMs = nowMs + renewAgainMs;
          this.#inTurn(() => this.#tell([]))
            .then(() => (renewMs = this.#heardMs + renewEveryMs))
            .catch(() => {})
            .finally(() => (renewing = false));
        }
        await this.#clock.sleep(Math.min(leftMs, renewAgainMs), { signal });
      }
    } catch (error) {
      if (!isAbort(error, signal)) throw error;
    } finally {
      this.#isKeeping = false;
    }
  }

  /** Says what is held and what is wanted, and gives up what the controller says is lost. */
  async #tell(want: readonly string[]): Promise<SlotVerdict> {
    const sentMs = this.#monotonicMs();
    const hold = [...this.#held.keys()];
    const verdict = await this.#state(
      { hold, want, sequence: this.#next() },
      { signal: this.#life.signal },
    );
    this.#heardMs = sentMs;
    this.#lose(verdict.lost, new Error("The controller gave the slot to another node"));
    return verdict;
  }

  #lose(plans: readonly string[], reason: Error): void {
    for (const plan of plans) {
      const users = this.#held.get(plan)?.users ?? [];
      this.#held.delete(plan);
      for (const user of users) user.abort(reason);
    }
  }

  #next(): number {
    return (this.#sequence = Math.max(this.#sequence + 1, this.#clock.now().getTime()));
  }

  async #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(() => {
      this.#life.signal.throwIfAborted();
      return task();
    });
    this.#turn = result.catch(() => {});
    return result;
  }
}

async function letGo(outcome: Slot | { readonly retryAfterMs: number }): Promise<void> {
  if ("lost" in outcome) await outcome[Symbol.asyncDispose]();
}
