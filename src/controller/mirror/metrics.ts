import type { Counter, Gauge, Registry } from "#telemetry/metrics.ts";

/** How a Mirror is, in one word. */
export const mirrorStates = ["ready", "progressing", "failing", "stalled", "suspended"] as const;

export type MirrorState = (typeof mirrorStates)[number];

/** What is counted of Mirrors, by the replica that leads. */
export interface MirrorMetrics {
  readonly statusWrites: Counter<{}>;
  readonly shardWrites: Counter<{ operation: readonly ["create", "update", "delete"] }>;
  readonly mirrors: Gauge<{ state: typeof mirrorStates }>;
}

/** Declares the metrics of Mirrors. */
export function mirrorMetrics(registry: Registry): MirrorMetrics {
  return {
    statusWrites: registry.counter({
      name: "coral_mirror_status_writes_total",
      help: "Writes of the status of a Mirror.",
    }),
    shardWrites: registry.counter({
      name: "coral_mirror_shard_writes_total",
      help: "MirrorShards that were created, changed and deleted.",
      labels: { operation: ["create", "update", "delete"] },
    }),
    mirrors: registry.gauge({
      name: "coral_mirrors",
      help: "Mirrors, by how they are. On replicas that do not lead it is 0.",
      labels: { state: mirrorStates },
    }),
  };
}

/** Counts Mirrors by state. */
export class MirrorCensus {
  readonly #gauge: MirrorMetrics["mirrors"];
  readonly #states = new Map<string, MirrorState>();

  constructor(gauge: MirrorMetrics["mirrors"]) {
    this.#gauge = gauge;
  }

  /** Takes note of how a Mirror is; `undefined` if it is no more. */
  set(key: string, state: MirrorState | undefined): void {
    const before = this.#states.get(key);
    if (before === state) return;
    if (before !== undefined) this.#gauge.add({ state: before }, -1);
    if (state === undefined) {
      this.#states.delete(key);
      return;
    }
    this.#states.set(key, state);
    this.#gauge.add({ state }, 1);
  }

  /** Forgets all of them. */
  clear(): void {
    for (const key of Array.from(this.#states.keys())) this.set(key, undefined);
  }
}
