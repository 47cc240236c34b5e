import { isDeepStrictEqual } from "node:util";

import { repositoryKey } from "#api/v1/destination.ts";
import { apiGroup, apiVersion } from "#api/v1/group.ts";
import type { MirrorShard } from "#api/v1/mirror-shard.ts";
import type { Mirror, MirrorStatus } from "#api/v1/mirror.ts";
import { mirrors } from "#api/v1/resources.ts";
import type { Clock } from "#async/clock.ts";
import type { KubeClient } from "#kube/client.ts";
import type { EventRecorder } from "#kube/events.ts";
import type { Informer } from "#kube/informer.ts";
import { settled, type Reconcile, type Result } from "#kube/reconcile.ts";
import { parseRepository } from "#oci/reference.ts";
import type { Claims } from "./claims.ts";
import { happeningsOf } from "./events.ts";
import type { MirrorMetrics, MirrorState } from "./metrics.ts";
import { nextDueMs, RemovalCheck } from "./removals.ts";
import { writeShards } from "./shard-writes.ts";
import { planShards, shardsByMirror } from "./shards.ts";
import { statusOf, type MirrorFacts } from "./status.ts";
import { RunningTotals } from "./totals.ts";
import type { WorkloadImages } from "./workload-images.ts";

export interface MirrorReconcilerDeps {
  client: Pick<KubeClient, "create" | "patch" | "replace" | "delete">;
  mirrors: Pick<Informer<Mirror>, "get">;
  /** With the index `shardsByMirror`. */
  shards: Pick<Informer<MirrorShard>, "get" | "byIndex">;
  claims: Pick<Claims, "verdictOf" | "claimantsOf" | "readersOf">;
  /** The uid of the namespace `kube-system`. */
  cluster: string;
  workloads: Pick<WorkloadImages, "want" | "users">;
  recorder: Pick<EventRecorder, "record">;
  clock: Clock;
  metrics: Pick<MirrorMetrics, "statusWrites" | "shardWrites">;
  /** Told how each Mirror is; `undefined` if it is no more. */
  onState: (key: string, state: MirrorState | undefined) => void;
  /** The least time between two writes of one status, unless it becomes Ready or ceases to be. */
  statusIntervalMs: number;
}

type Scope = { signal: AbortSignal };

/** What is remembered of a Mirror between two reconciles. */
interface Memory {
  readonly uid: string | undefined;
  readonly totals: RunningTotals;
  writtenAtMs: number;
}

/**
 * Keeps the shards of a Mirror as its spec says, and its status as the shards tell.
 *
 * Level-based: each call starts from the caches. It needs no finalizer: shards without their Mirror are removed,
 * at the latest by the garbage collector. A Mirror that is being deleted counts for gone, whatever holds it up.
 */
export function mirrorReconciler(deps: MirrorReconcilerDeps): Reconcile {
  const memories = new Map<string, Memory>();

  return async function reconcile(key, { log, signal }) {
    const mirror = deps.mirrors.get(key);
    const shards = deps.shards.byIndex(shardsByMirror, key);
    if (!mirror || mirror.metadata.deletionTimestamp !== undefined) {
      memories.delete(key);
      deps.workloads.want(key, undefined);
      deps.onState(key, undefined);
      const orphans = { create: [], update: [], delete: shards };
      const { failure } = await writeShards(orphans, { ...deps, signal });
      if (failure) throw failure.error;
      return settled;
    }
    const verdict = deps.claims.verdictOf(key);
    if (!verdict) return settled; // It has changed since, which leads here again.
    const now = deps.clock.now();
    const { claims, workloads } = deps;
    const check = new RemovalCheck({ mirror, claims, users: workloads.users, now });
    const { namespace = "" } = mirror.metadata;
    const plan = planShards({
      mirror,
      cluster: deps.cluster,
      copies: verdict.copies,
      shards,
      get: (name) => deps.shards.get({ namespace, name }),
      removalsOf: (copy, shard) => check.approved(copy, shard),
    });
    const { written, refused, failure } = await writeShards(plan, { ...deps, signal });
    if (written.length > 0) log.info("MirrorShards written", { count: written.length });
    const known = [...plan.kept, ...plan.retired.map(({ shard }) => shard), ...written];
    const current = new Map(known.map((shard) => [shard.spec.source, shard]));
    const retired = plan.retired.map(({ copy }) => copy);
    const copies = new Map([...verdict.copies, ...retired].map((copy) => [copy.source, copy]));
    // Always in the same order, or messages would change with nothing else.
    const own = [...copies.keys()].flatMap((source) => current.get(source) ?? []);
    const outdated = new Set(
      plan.update.map(({ shard }) => shard).filter((shard) => own.includes(shard)),
    );
    watchWorkloads(key, mirror, own);
    const wait = await writeStatus(key, mirror, {
      verdict,
      shards: own,
      outdated,
      blocked: plan.blocked,
      unwritten: refused,
      keptBy: ({ spec: { source } }, candidate) => {
        const copy = copies.get(source);
        return copy && check.keeperOf(copy, candidate);
      },
      now,
      signal,
    });
    // Mostly our cache was a moment behind.
    if (failure) throw failure.error;
    return soonest([wait, nextDueMs(own, now)]);
  };

  /** Who refers to what matters only where something may be removed, or could be. */
  function watchWorkloads(key: string, { spec }: Mirror, shards: readonly MirrorShard[]): void {
    const listing = shards.filter(({ status }) => (status?.removable ?? 0) > 0);
    const isWanted = spec.removalPolicy === "Delete" || listing.length > 0;
    const repositories = listing.flatMap(({ spec: { source, target } }) =>
      [source, target].map((name) => repositoryKey(parseRepository(name))),
    );
    deps.workloads.want(key, isWanted ? repositories : undefined);
  }

  /** @returns in how many milliseconds there is more to write. */
  async function writeStatus(
    key: string,
    mirror: Mirror,
    { signal, ...found }: Scope & Omit<MirrorFacts, "totals">,
  ): Promise<number | undefined> {
    const { now } = found;
    const memory = remember(key, mirror);
    const totals = memory.totals.sum(mirror, found.shards);
    const status = statusOf(mirror, { ...found, totals });
    deps.onState(key, stateOf(status));
    if (isDeepStrictEqual(status, mirror.status)) return undefined;
    const sinceMs = now.getTime() - memory.writtenAtMs;
    const isEarly = sinceMs >= 0 && sinceMs < deps.statusIntervalMs;
    // Who waits for Ready is told at once.
    if (isEarly && !isUrgent(mirror.status, status)) return deps.statusIntervalMs - sinceMs;
    // With the version that was read: what was told of an older spec must not pass for this one.
    await deps.client.replace(mirrors, { ...mirror, status }, { subresource: "status", signal });
    memory.writtenAtMs = now.getTime();
    deps.metrics.statusWrites.inc({});
    tellOf(mirror, status);
    return undefined;
  }

  function remember(key: string, { metadata: { uid } }: Mirror): Memory {
    const known = memories.get(key);
    if (known && known.uid === uid) return known;
    const memory = { uid, totals: new RunningTotals(), writtenAtMs: -Infinity };
    memories.set(key, memory);
    return memory;
  }

  function tellOf(mirror: Mirror, status: MirrorStatus): void {
    const { name, namespace = "", uid = "" } = mirror.metadata;
    const kind = { apiVersion: `${apiGroup}/${apiVersion}`, kind: "Mirror" };
    const regarding = { ...kind, name, namespace, uid };
    for (const happening of happeningsOf(mirror.status, status)) {
      deps.recorder.record({ regarding, ...happening });
    }
  }
}

function soonest(waits: readonly (number | undefined)[]): Result {
  const known = waits.filter((ms) => ms !== undefined);
  return known.length > 0 ? { requeueAfterMs: Math.min(...known) } : settled;
}

/** People and scripts wait for Ready, and for the first status of a generation. */
function isUrgent(previous: MirrorStatus | undefined, next: MirrorStatus): boolean {
  return (
    previous?.observedGeneration !== next.observedGeneration ||
    conditionStatus(previous, "Ready") !== conditionStatus(next, "Ready")
  );
}

function stateOf(status: MirrorStatus): MirrorState {
  if (conditionStatus(status, "Suspended") === "True") return "suspended";
  if (conditionStatus(status, "Stalled") === "True") return "stalled";
  if (status.failed > 0) return "failing";
  return conditionStatus(status, "Ready") === "True" ? "ready" : "progressing";
}

function conditionStatus(status: MirrorStatus | undefined, type: string): string | undefined {
  return status?.conditions?.find((condition) => condition.type === type)?.status;
}
