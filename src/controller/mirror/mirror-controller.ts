import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { MirrorShard } from "#api/v1/mirror-shard.ts";
import type { Mirror } from "#api/v1/mirror.ts";
import type { Clock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import type { KubeClient } from "#kube/client.ts";
import type { EventRecorder } from "#kube/events.ts";
import type { Informer } from "#kube/informer.ts";
import { parseKey } from "#kube/key.ts";
import { WorkQueue } from "#kube/work-queue.ts";
import type { Log } from "#telemetry/log.ts";
import type { Registry } from "#telemetry/metrics.ts";
import { Claims } from "./claims.ts";
import { readClusterId } from "./cluster-id.ts";
import { MirrorCensus, mirrorMetrics, type MirrorMetrics } from "./metrics.ts";
import { mirrorReconciler } from "./reconciler.ts";
import { mirrorKeyOf } from "./shards.ts";
import { WorkloadImages } from "./workload-images.ts";

/** As for Images: short waits for the API server. */
const workers = 4;

const backoff = { minMs: 200, maxMs: 60_000 };

export interface MirrorControllerDeps {
  client: KubeClient;
  mirrors: Pick<Informer<Mirror>, "get" | "onChange">;
  /** With the index `shardsByMirror`. */
  shards: Pick<Informer<MirrorShard>, "get" | "byIndex" | "onChange">;
  /** Images that agents are to have. */
  plans: Pick<Informer<ImagePlan>, "onChange">;
  recorder: Pick<EventRecorder, "record">;
  clock: Clock;
  random: () => number;
  log: Log;
  metrics: Registry;
  statusIntervalMs: number;
}

/** The part of the controller that is for Mirrors. The informers are somebody else's to run. */
export class MirrorController {
  readonly #deps: MirrorControllerDeps;
  readonly #metrics: MirrorMetrics;
  #cluster: string | undefined;

  constructor(deps: MirrorControllerDeps) {
    this.#deps = deps;
    this.#metrics = mirrorMetrics(deps.metrics);
  }

  /** Reconciles until aborted. The caches must be filled: what they lack would pass for deleted. */
  async lead(signal: AbortSignal): Promise<void> {
    const { client, mirrors, shards, plans, clock, random, log, metrics } = this.#deps;
    this.#cluster ??= await readClusterId({ client, clock, random, log, signal });
    const queue = new WorkQueue({
      name: "mirror",
      clock,
      random,
      backoff,
      metrics,
      // Each takes up to 65 writes: who changes thousands of Mirrors must not keep others waiting.
      groupOf: (key) => parseKey(key).namespace ?? "",
    });
    const claims = new Claims();
    const workloads = new WorkloadImages({
      client,
      plans,
      clock,
      log,
      onChange: (mirror) => queue.add(mirror),
    });
    const census = new MirrorCensus(this.#metrics.mirrors);
    using stack = new DisposableStack();
    stack.defer(() => census.clear());
    // Each listener is told of all that is there already: a new leader looks at everything once. All claims are
    // made before the first Mirror is reconciled.
    stack.use(
      mirrors.onChange(({ type, key, object }) => {
        const isGone = type === "deleted" || object.metadata.deletionTimestamp !== undefined;
        const others = isGone ? claims.delete(key) : claims.set(object);
        for (const other of others) queue.add(other);
        queue.add(key);
      }),
    );
    stack.use(
      shards.onChange(({ object }) => {
        const key = mirrorKeyOf(object);
        if (key !== undefined) queue.add(key);
      }),
    );
    const reconcile = mirrorReconciler({
      ...this.#deps,
      claims,
      cluster: this.#cluster,
      workloads,
      metrics: this.#metrics,
      onState: (key, state) => census.set(key, state),
    });
    await using group = new TaskGroup(signal);
    await Promise.all([
      group.run((scope) => workloads.run(scope)),
      group.run((scope) => queue.run(reconcile, { workers, log, signal: scope })),
    ]);
  }
}
