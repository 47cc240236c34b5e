import type { MirrorShard, MirrorShardStatus } from "#api/v1/mirror-shard.ts";
import { mirrorShards } from "#api/v1/resources.ts";
import type { Clock } from "#async/clock.ts";
import type { KubeClient } from "#kube/client.ts";
import { ApiError, ConflictError } from "#kube/errors.ts";
import type { Informer } from "#kube/informer.ts";
import { formatKey, keyOf } from "#kube/key.ts";
import type { Change } from "#kube/object-cache.ts";
import { settled, type Result } from "#kube/reconcile.ts";
import { WorkQueue } from "#kube/work-queue.ts";
import type { SecretWatch } from "#secrets/secret-watch.ts";
import type { Log } from "#telemetry/log.ts";
import type { Registry } from "#telemetry/metrics.ts";
import { KnownShard } from "./known-shard.ts";
import type { Membership } from "./membership.ts";
import type { MirrorMetrics, RunResult } from "./metrics.ts";
import { heldUntilMs, isOwn, nextStep, type Onlooker } from "./next-step.ts";
import { RunQueue, type QueuedRun, type RunningRun } from "./run-queue.ts";
import {
  isOtherGeneration,
  isWell,
  mayGoOn,
  queuedRun,
  secretNames,
  wishOf,
} from "./shard-facts.ts";

/** After a shard could not be given back. */
const backoff = { minMs: 1_000, maxMs: 60_000 };

type Scope = { signal: AbortSignal };

export interface MirrorWorkerOptions {
  readonly client: Pick<KubeClient, "replace">;
  readonly shards: Pick<Informer<MirrorShard>, "get" | "list" | "onChange">;
  readonly membership: Pick<Membership, "members" | "onChange">;
  readonly secrets: Pick<SecretWatch, "use" | "revisionOf" | "onChange">;
  /** Implemented by `ShardRunner`. */
  readonly runner: { run(shard: MirrorShard, options: { signal: AbortSignal }): Promise<void> };
  /** Of this worker among the members. */
  readonly identity: string;
  /** How many shards are run at the same time, without those whose registry wants to be left alone. */
  readonly runsAtOnce: number;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
  readonly metrics: MirrorMetrics;
  /** For what its queue tells of itself. */
  readonly registry?: Registry;
}

/** A run that is under way. */
interface Run {
  readonly queued: QueuedRun;
  readonly shard: MirrorShard;
  readonly stop: AbortController;
  readonly ended: PromiseWithResolvers<void>;
}

/**
 * Does this worker's share of all shards: each when it is due, so many at a time, and never one twice at once.
 *
 * Each change of a shard, of the workers or of a Secret, and each time that comes, is a reason to look at a
 * shard, and what is then done with it depends on how things are alone. A run is aborted when its shard goes,
 * is to be done otherwise, or is another worker's. Being asked for once more, or told of more that may be
 * removed, is no reason: another run follows.
 */
export class MirrorWorker {
  readonly #options: MirrorWorkerOptions;
  readonly #looks: WorkQueue;
  readonly #waiting = new RunQueue();
  readonly #running = new Map<string, Run>();
  readonly #known = new Map<string, KnownShard>();
  #isStopping = false;

  constructor(options: MirrorWorkerOptions) {
    const { clock, random, registry } = options;
    this.#options = options;
    const common = { name: "mirror-shard", clock, random, backoff };
    this.#looks = new WorkQueue({ ...common, ...(registry && { metrics: registry }) });
  }

  /** Works until aborted; then aborts all runs, and returns when each has let its shard go. Call it once. */
  async run(signal: AbortSignal): Promise<void> {
    const { shards, membership, secrets, log } = this.#options;
    using stack = new DisposableStack();
    stack.use(shards.onChange((change) => this.#hear(change)));
    stack.use(membership.onChange(() => this.#lookAtAll()));
    stack.use(secrets.onChange((secret) => this.#hearOfSecret(secret)));
    this.#lookAtAll();
    await this.#looks.run((key) => this.#look(key, { signal }), { workers: 4, log, signal });
    this.#isStopping = true;
    for (const { stop } of this.#running.values()) stop.abort(signal.reason);
    await Promise.all([...this.#running.values()].map(({ ended }) => ended.promise));
  }

  #hear(change: Change<MirrorShard>): void {
    const { key, object } = change;
    const known = this.#known.get(key);
    if (change.type === "updated" && known && isOtherGeneration(object, change.previous)) {
      known.change({ isAskedAnew: wishOf(object) !== wishOf(change.previous) });
    }
    this.#looks.add(key);
  }

  #hearOfSecret({ namespace, name }: { namespace: string; name: string }): void {
    for (const shard of this.#options.shards.list({ namespace })) {
      if (secretNames(shard).includes(name)) this.#looks.add(formatKey(keyOf(shard)));
    }
  }

  #lookAtAll(): void {
    const { shards, membership, metrics } = this.#options;
    metrics.members.set({}, membership.members.size);
    // At once, whatever other looks wait for: others take over what this worker has lost.
    for (const [key, run] of this.#running) this.#abortIfOther(run, this.#ownOf(key));
    for (const shard of shards.list()) this.#looks.add(formatKey(keyOf(shard)));
  }

  async #look(key: string, { signal }: Scope): Promise<Result> {
    const { shards, secrets, identity } = this.#options;
    const shard = shards.get(key);
    const run = this.#running.get(key);
    const own = this.#ownOf(key);
    secrets.use(key, shard?.metadata.namespace ?? "", own ? secretNames(own) : []);
    if (run) return this.#lookAtRun(run, own);
    if (own) return this.#lookAtOwn(key, own);
    this.#waiting.delete(key);
    this.#startDue(); // It counts what waits, too.
    if (shard?.status?.worker === identity) {
      return this.#giveBack(key, { ...shard, status: shard.status }, { signal });
    }
    this.#known.delete(key);
    return settled;
  }

  /**
   * Takes this worker's name out of a shard that it does not do: it was left there when the API server could
   * not be reached, or in this pod's last life. Nobody else would do the shard while this worker lives.
   */
  async #giveBack(
    key: string,
    shard: MirrorShard & { readonly status: MirrorShardStatus },
    { signal }: Scope,
  ): Promise<Result> {
    const { client, log } = this.#options;
    const known = this.#knownOf(key);
    const leftMs = known.claimLeftMs(this.#nowMs);
    if (leftMs > 0) return { requeueAfterMs: leftMs };
    const { worker: _, ...status } = shard.status;
    try {
      await client.replace(mirrorShards, { ...shard, status }, { subresource: "status", signal });
    } catch (error) {
      if (!(error instanceof ApiError && [404, 409].includes(error.status))) throw error;
      log.debug("a shard has changed before it was given back", { kind: "MirrorShard", name: key });
    }
    known.forgetClaim();
    return settled; // When it comes back, it is looked at again.
  }

  /** A shard, if it is this worker's. */
  #ownOf(key: string): MirrorShard | undefined {
    const shard = this.#options.shards.get(key);
    return shard && isOwn(shard, this.#onlooker) ? shard : undefined;
  }

  get #onlooker(): Onlooker {
    const { identity, membership } = this.#options;
    return { identity, members: membership.members };
  }

  /** @param shard - as it is now; `undefined` if it is not this worker's any more. */
  #lookAtRun(run: Run, shard: MirrorShard | undefined): Result {
    this.#abortIfOther(run, shard);
    this.#startDue(); // Perhaps it is held by now, or held no more.
    const nowMs = this.#nowMs;
    const heldMs = shard && heldUntilMs(shard, nowMs);
    return heldMs === undefined ? settled : { requeueAfterMs: heldMs - nowMs };
  }

  /** @param shard - as it is now; `undefined` if it is not this worker's any more. */
  #abortIfOther({ shard: begun, stop }: Run, shard: MirrorShard | undefined): void {
    if (!shard) {
      stop.abort(new Error("The shard is not this worker's any more"));
    } else if (shard.metadata.uid !== begun.metadata.uid || !mayGoOn(begun, shard)) {
      stop.abort(new Error("The shard is to be done otherwise"));
    }
  }

  #lookAtOwn(key: string, shard: MirrorShard): Result {
    const { identity, clock } = this.#options;
    const known = this.#knownOf(key);
    const nowMs = this.#nowMs;
    const lagMs = known.lagLeftMs(shard, identity, nowMs);
    if (lagMs > 0) return { requeueAfterMs: lagMs };
    known.forgetClaim();
    known.isAskedAnew ||= this.#hasOtherSecrets(shard, known);
    const { isAskedAnew } = known;
    const step = nextStep(shard, { ...this.#onlooker, isAskedAnew, now: clock.now() });
    const untilMs =
      step.kind === "run" ? known.restUntilMs : step.kind === "wait" ? step.untilMs : Infinity;
    if (untilMs > nowMs) this.#waiting.delete(key);
    else this.#waiting.put(queuedRun(key, shard));
    this.#startDue();
    return untilMs > nowMs && untilMs < Infinity ? { requeueAfterMs: untilMs - nowMs } : settled;
  }

  /** Whether the Secrets have changed since a run that did not go well. */
  #hasOtherSecrets(shard: MirrorShard, known: KnownShard): boolean {
    if (known.secrets === undefined || isWell(shard)) return false;
    const revision = this.#revisionOf(shard);
    return revision !== undefined && revision !== known.secrets;
  }

  #revisionOf(shard: MirrorShard): string | undefined {
    const { namespace = "" } = shard.metadata;
    return this.#options.secrets.revisionOf(namespace, secretNames(shard));
  }

  #startDue(): void {
    const { runsAtOnce: slots, metrics } = this.#options;
    while (!this.#isStopping) {
      const next = this.#waiting.take({ running: this.#runningNow(), slots });
      if (!next) break;
      this.#start(next);
    }
    const running = this.#runningNow();
    metrics.queueDepth.set({}, this.#waiting.size);
    metrics.running.set({}, running.length);
    metrics.held.set({}, running.filter(({ isHeld }) => isHeld).length);
  }

  #runningNow(): RunningRun[] {
    return [...this.#running.values()].map(({ queued, shard }) => {
      const current = this.#options.shards.get(queued.key);
      // What was told by a run before this one does not count.
      const isTold =
        current?.status?.worker === this.#options.identity &&
        current.metadata.resourceVersion !== shard.metadata.resourceVersion;
      return { ...queued, isHeld: isTold && heldUntilMs(current, this.#nowMs) !== undefined };
    });
  }

  #start(queued: QueuedRun): void {
    const { key } = queued;
    const shard = this.#ownOf(key);
    if (!shard) return; // It will be looked at, too.
    const run = {
      queued,
      shard,
      stop: new AbortController(),
      ended: Promise.withResolvers<void>(),
    };
    this.#running.set(key, run);
    void this.#carryOut(run, this.#knownOf(key));
  }

  async #carryOut({ queued, shard, stop, ended }: Run, known: KnownShard): Promise<void> {
    const { runner, metrics } = this.#options;
    const { key } = queued;
    const startedAtMs = performance.now();
    known.begin(this.#revisionOf(shard));
    let result: RunResult = "done";
    try {
      await runner.run(shard, { signal: stop.signal });
      known.end(shard, this.#nowMs);
      known.secrets ??= this.#revisionOf(shard);
      metrics.runSeconds.observe({}, (performance.now() - startedAtMs) / 1_000);
    } catch (error) {
      result = this.#noteError(key, error, { known, signal: stop.signal });
    }
    metrics.runs.inc({ result });
    this.#running.delete(key);
    this.#looks.add(key);
    this.#startDue();
    ended.resolve();
  }

  #noteError(
    key: string,
    error: unknown,
    { known, signal }: { known: KnownShard; signal: AbortSignal },
  ): RunResult {
    if (signal.aborted) {
      known.interrupt();
      return "aborted";
    }
    const { random, log } = this.#options;
    known.fail(this.#nowMs, random);
    const isConflict = error instanceof ConflictError;
    const fields = { kind: "MirrorShard", name: key, attempt: known.failures, error };
    // Somebody else writing first is everyday life.
    log[isConflict && known.failures < 3 ? "debug" : "warn"]("run failed", fields);
    return isConflict ? "conflict" : "error";
  }

  #knownOf(key: string): KnownShard {
    const known = this.#known.get(key) ?? new KnownShard();
    this.#known.set(key, known);
    return known;
  }

  get #nowMs(): number {
    return this.#options.clock.now().getTime();
  }
}
