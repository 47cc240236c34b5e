/** How long a slot is held without a sign of its holder. */
export const slotMs = 40_000;

/**
 * How long a node may go on from one image to the next while others wait. Without a bound, images
 * that fail slowly and come back would keep a slot for ever.
 */
export const tenureMs = 5 * 60_000;

/** How often to look while nothing is granted yet. */
const takeOverRetryMs = 10_000;

/** How soon somebody near the head of the line asks again, and everybody else at the least. */
const headRetryMs = 2_000;
const tailRetryMs = 5_000;

/** Who is so near to the head that a slot should not wait long for them. */
const headLength = 20;

/** The waiting ask so often in all, at most, beyond those near the head. */
const asksPerSecond = 100;
const maxRetryMs = 60_000;

/** How much longer than told an agent may take to come back: it adds up to as much again. */
const lateFactor = 2;
const lateMs = 5_000;

/** Claims waiting in all; whoever comes beyond that has no place in the line. */
const maxClaims = 20_000;

/** Different sets of plans that one node can wait for. */
const maxClaimsPerNode = 32;

/** What an agent says: all that it holds, and what it wants besides. */
export interface SlotRequest {
  readonly node: string;
  /** Every plan of which it holds a slot. What it held and does not name here is free. */
  readonly hold: readonly string[];
  /** Plans of which it wants a slot of each, or nothing. Those it holds may be among them. */
  readonly want: readonly string[];
  /** Grows with each request of a node: one that was overtaken says nothing any more. */
  readonly sequence: number;
}

export interface SlotAnswer {
  /** Whether it has a slot of every plan it wants. */
  readonly granted: boolean;
  /** When to ask again, if not. */
  readonly retryAfterMs: number;
  /** Plans that it says it holds, and does not. */
  readonly lost: readonly string[];
}

/** How many nodes may hold a slot of a plan; `undefined` if it has none to give now. */
export type SlotLimit = (plan: string) => number | undefined;

interface Claim {
  readonly node: string;
  readonly key: string;
  readonly plans: readonly string[];
  untilMs: number;
}

interface Held {
  sinceMs: number;
  untilMs: number;
}

interface Holder {
  /** By plan. */
  readonly held: Map<string, Held>;
  sequence: number;
  seenMs: number;
}

/**
 * Who holds a slot of which plan, and who waits for one. Pure: time and limits are given.
 *
 * Claims stand in one line. A claim is granted when, in each of its plans, the nodes that hold a
 * slot and those that wait in front of it leave one: whoever is in front waits only for holders, so
 * everybody gets to the front. One line for all plans, since with a line each, two nodes that want
 * the same two plans could each be first in one of them, for ever.
 */
export class SlotTable {
  readonly #beganMs: number;
  readonly #nodes = new Map<string, Holder>();
  readonly #holders = new Map<string, Set<string>>();
  /** In the order in which they came. */
  readonly #claims = new Map<string, Claim>();
  readonly #waiting = new Map<string, Map<string, Claim>>();
  readonly #claimsOf = new Map<string, number>();
  #sweptMs = -Infinity;

  /**
   * @param beganMs - when this table took over from another. For the length of a slot it grants
   * nothing, and believes those who say that they hold something.
   */
  constructor(beganMs: number) {
    this.#beganMs = beganMs;
  }

  /** How many nodes hold a slot of a plan. */
  holding(plan: string): number {
    return this.#holders.get(plan)?.size ?? 0;
  }

  /** How many claims wait. */
  get waiting(): number {
    return this.#claims.size;
  }

  /** Takes note of what an agent says, and answers it; `undefined` if that was overtaken. */
  ask(request: SlotRequest, limitOf: SlotLimit, nowMs: number): SlotAnswer | undefined {
    this.#sweep(nowMs);
    const { node, sequence } = request;
    const known = this.#nodes.get(node);
    if (known && sequence <= known.sequence) return undefined;
    const holder = known ?? { held: new Map<string, Held>(), sequence, seenMs: nowMs };
    this.#nodes.set(node, holder);
    holder.sequence = sequence;
    holder.seenMs = nowMs;
    const lost = this.#renew(node, holder, request.hold, limitOf, nowMs);
    if (request.want.length === 0) return { granted: true, retryAfterMs: 0, lost };
    const plans = [...new Set(request.want)].toSorted();
    const waitMs = this.#waitMs(node, plans, limitOf, nowMs);
    if (waitMs > 0) return { granted: false, retryAfterMs: waitMs, lost };
    for (const plan of plans) {
      const sinceMs = tenureSince(holder.held.get(plan), nowMs) ?? nowMs;
      this.#hold(node, holder, plan, { sinceMs, nowMs });
    }
    return { granted: true, retryAfterMs: 0, lost };
  }

  /** @returns the plans that the node no longer holds, though it says so. */
  #renew(
    node: string,
    holder: Holder,
    hold: readonly string[],
    limitOf: SlotLimit,
    nowMs: number,
  ): string[] {
    const held = new Set(hold);
    for (const plan of holder.held.keys()) {
      if (!held.has(plan)) this.#free(node, holder, plan);
    }
    const lost: string[] = [];
    for (const plan of held) {
      const limit = limitOf(plan);
      const known = holder.held.get(plan);
      const isNew = known === undefined;
      if (isNew && limit === undefined) continue; // Nobody counts it: nothing is lost.
      const isTaken = isNew && (!this.#takesOver(nowMs) || this.holding(plan) >= (limit ?? 0));
      if (isTaken) lost.push(plan);
      else this.#hold(node, holder, plan, { sinceMs: known?.sinceMs ?? nowMs, nowMs });
    }
    return lost;
  }

  /** @returns 0 if all plans can be granted; otherwise the claim is in line. */
  #waitMs(node: string, plans: readonly string[], limitOf: SlotLimit, nowMs: number): number {
    const key = JSON.stringify([node, ...plans]);
    const limits = plans.map((plan) => limitOf(plan));
    // Here it is not bounded, and there it is: one of us is about to hear of a change.
    if (limits.some((limit) => limit === undefined)) {
      this.#leave(key);
      return headRetryMs;
    }
    const claim = this.#claims.get(key) ?? this.#enter(node, key, plans);
    const isFree = plans.every((plan, index) =>
      this.#isFree(node, key, plan, limits[index] ?? 0, nowMs),
    );
    if (isFree && !this.#takesOver(nowMs)) {
      this.#leave(key);
      return 0;
    }
    if (!claim) return maxRetryMs;
    const beginsMs = Math.min(this.#beganMs + slotMs - nowMs, takeOverRetryMs);
    const retryMs = Math.max(beginsMs, this.#retryMs(claim));
    claim.untilMs = nowMs + retryMs * lateFactor + lateMs;
    return retryMs;
  }

  /** Whether the holders of a plan and those in front of a claim leave a slot. */
  #isFree(node: string, key: string, plan: string, limit: number, nowMs: number): boolean {
    const own = this.#nodes.get(node)?.held.get(plan);
    if (tenureSince(own, nowMs) !== undefined) return true;
    const others = new Set(this.#holders.get(plan));
    others.delete(node);
    for (const [other, claim] of this.#waiting.get(plan) ?? []) {
      if (other === key || others.size >= limit) break;
      if (claim.node !== node) others.add(claim.node);
    }
    return others.size < limit;
  }

  #retryMs(claim: Claim): number {
    if (claim.plans.every((plan) => this.#isNearHead(plan, claim.key))) return headRetryMs;
    const shareMs = Math.ceil((this.#claims.size * 1_000) / asksPerSecond);
    return Math.min(Math.max(tailRetryMs, shareMs), maxRetryMs);
  }

  #isNearHead(plan: string, key: string): boolean {
    let place = 0;
    for (const other of this.#waiting.get(plan)?.keys() ?? []) {
      if (other === key) return true;
      if (++place >= headLength) return false;
    }
    return false;
  }

  #enter(node: string, key: string, plans: readonly string[]): Claim | undefined {
    const ofNode = this.#claimsOf.get(node) ?? 0;
    if (this.#claims.size >= maxClaims || ofNode >= maxClaimsPerNode) return undefined;
    const claim = { node, key, plans, untilMs: Infinity };
    this.#claims.set(key, claim);
    this.#claimsOf.set(node, ofNode + 1);
    for (const plan of plans) {
      const line = this.#waiting.get(plan) ?? new Map<string, Claim>();
      this.#waiting.set(plan, line.set(key, claim));
    }
    return claim;
  }

  #leave(key: string): void {
    const claim = this.#claims.get(key);
    if (!claim) return;
    this.#claims.delete(key);
    const ofNode = (this.#claimsOf.get(claim.node) ?? 1) - 1;
    if (ofNode > 0) this.#claimsOf.set(claim.node, ofNode);
    else this.#claimsOf.delete(claim.node);
    for (const plan of claim.plans) {
      const line = this.#waiting.get(plan);
      line?.delete(key);
      if (line?.size === 0) this.#waiting.delete(plan);
    }
  }

  #hold(
    node: string,
    { held }: Holder,
    plan: string,
    { sinceMs, nowMs }: { sinceMs: number; nowMs: number },
  ): void {
    held.set(plan, { sinceMs, untilMs: nowMs + slotMs });
    const holders = this.#holders.get(plan) ?? new Set<string>();
    this.#holders.set(plan, holders.add(node));
  }

  #free(node: string, { held }: Holder, plan: string): void {
    held.delete(plan);
    const holders = this.#holders.get(plan);
    holders?.delete(node);
    if (holders?.size === 0) this.#holders.delete(plan);
  }

  #takesOver(nowMs: number): boolean {
    return nowMs < this.#beganMs + slotMs;
  }

  /** Forgets what has run out; once a second, so that a crowd does not pay for it at each request. */
  #sweep(nowMs: number): void {
    if (nowMs - this.#sweptMs < 1_000) return;
    this.#sweptMs = nowMs;
    for (const [node, holder] of this.#nodes) {
      for (const [plan, { untilMs }] of holder.held) {
        if (untilMs <= nowMs) this.#free(node, holder, plan);
      }
      if (holder.held.size === 0 && holder.seenMs + slotMs <= nowMs) this.#nodes.delete(node);
    }
    for (const [key, { untilMs }] of this.#claims) {
      if (untilMs <= nowMs) this.#leave(key);
    }
  }
}

/** Since when a tenure lasts that has not ended. */
function tenureSince(held: Held | undefined, nowMs: number): number | undefined {
  return held && nowMs - held.sinceMs < tenureMs ? held.sinceMs : undefined;
}
