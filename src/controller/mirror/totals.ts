import type { MirrorShard } from "#api/v1/mirror-shard.ts";
import type { Mirror } from "#api/v1/mirror.ts";

/** What a Mirror has done since it was made. */
export interface Totals {
  readonly bytesCopied: number;
  readonly removed: number;
}

const nothing: Totals = { bytesCopied: 0, removed: 0 };

/**
 * Sums up what the shards of a Mirror have done, those that are gone included. A shard takes its numbers with
 * it; what was told once stays in the sum.
 */
export class RunningTotals {
  #seen: Map<string, Totals> | undefined;
  /** Of shards that are gone. */
  #gone = nothing;

  /** Sums up, given all shards that there are. The numbers never get smaller. */
  sum({ status }: Pick<Mirror, "status">, shards: readonly MirrorShard[]): Totals {
    const told: Totals = { bytesCopied: status?.bytesCopied ?? 0, removed: status?.removed ?? 0 };
    const now = new Map(shards.map((shard) => [shard.metadata.uid ?? "", totalsOf(shard)]));
    const present = [...now.values()].reduce(add, nothing);
    // A new leader knows of shards that are gone only that they must make up the rest.
    if (!this.#seen) this.#gone = less(told, present);
    for (const [uid, before] of this.#seen ?? []) {
      this.#gone = add(this.#gone, less(before, now.get(uid) ?? nothing));
    }
    this.#seen = now;
    const sum = add(this.#gone, present);
    return {
      bytesCopied: Math.max(told.bytesCopied, sum.bytesCopied),
      removed: Math.max(told.removed, sum.removed),
    };
  }
}

function totalsOf({ status }: MirrorShard): Totals {
  return { bytesCopied: status?.bytesCopied ?? 0, removed: status?.removed ?? 0 };
}

function add(a: Totals, b: Totals): Totals {
  return {
    bytesCopied: Math.min(a.bytesCopied + b.bytesCopied, Number.MAX_SAFE_INTEGER),
    removed: a.removed + b.removed,
  };
}

/** What `a` has more than `b`. */
function less(a: Totals, b: Totals): Totals {
  return {
    bytesCopied: Math.max(0, a.bytesCopied - b.bytesCopied),
    removed: Math.max(0, a.removed - b.removed),
  };
}
