import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { Image } from "#api/v1/image.ts";
import type { NodeReport } from "#api/v1/node-report.ts";
import type { Clock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import type { KubeClient } from "#kube/client.ts";
import type { Informer } from "#kube/informer.ts";
import type { Node, Pod } from "#kube/types.ts";
import { WorkQueue } from "#kube/work-queue.ts";
import type { Log } from "#telemetry/log.ts";
import type { Registry } from "#telemetry/metrics.ts";
import { imageReconciler } from "./image/reconciler.ts";
import { Tally } from "./image/tally.ts";
import { controllerMetrics, type ControllerMetrics } from "./metrics.ts";
import { Monitor } from "./monitor.ts";
import { Liveness } from "./node/liveness.ts";
import { nodeReconciler } from "./node/reconciler.ts";

/** Reconciles are short waits for the API server; more at once would only crowd it. */
const workers = 4;

/** A refused write is tried again soon at first: mostly our cache was a moment behind. */
const backoff = { minMs: 200, maxMs: 60_000 };

/** Changes of a node's labels that come within this time go together. */
const patchIntervalMs = 2_000;

export interface ControllerSettings {
  readonly statusIntervalMs: number;
  readonly newNodeGraceMs: number;
  readonly agentGraceMs: number;
}

type Cache<T extends Image | ImagePlan | NodeReport | Node | Pod> = Pick<
  Informer<T>,
  "get" | "list" | "onChange"
>;

export interface ControllerDeps {
  client: KubeClient;
  images: Cache<Image>;
  plans: Cache<ImagePlan>;
  reports: Cache<NodeReport>;
  nodes: Cache<Node>;
  /** The agents' pods. */
  pods: Cache<Pod>;
  clock: Clock;
  random: () => number;
  log: Log;
  metrics: Registry;
}

/**
 * The controller: counts on every replica, reconciles on the one that leads. The informers are
 * somebody else's to run.
 */
export class Controller implements Disposable {
  readonly #settings: ControllerSettings;
  readonly #deps: ControllerDeps;
  readonly #metrics: ControllerMetrics;
  readonly #tally: Tally;
  readonly #monitor: Monitor;
  /** Hears of each Image whose counts changed, while this replica leads. */
  #onCounted: ((key: string) => void) | undefined;

  constructor(settings: ControllerSettings, deps: ControllerDeps) {
    this.#settings = settings;
    this.#deps = deps;
    this.#metrics = controllerMetrics(deps.metrics);
    this.#tally = new Tally((key) => this.#onCounted?.(key));
    const liveness = new Liveness({ graceMs: settings.agentGraceMs });
    this.#monitor = new Monitor({ ...deps, tally: this.#tally, liveness });
  }

  /** Reconciles until aborted. The caches must be filled: what they lack would pass for deleted. */
  async lead(signal: AbortSignal): Promise<void> {
    const { images, plans, reports, nodes, pods, clock, random, metrics, log } = this.#deps;
    const common = { clock, random, backoff, metrics };
    const imageQueue = new WorkQueue({ name: "image", ...common });
    const nodeQueue = new WorkQueue({ name: "node", ...common });
    using listeners = new DisposableStack();
    this.#onCounted = (key) => imageQueue.add(key);
    listeners.defer(() => (this.#onCounted = undefined));
    // Each listener is told of all that is there already: a new leader looks at everything once.
    listeners.use(
      images.onChange((change) => {
        imageQueue.add(change.key);
        const isSameSpec =
          change.type === "updated" &&
          change.previous?.metadata.generation === change.object.metadata.generation;
        if (isSameSpec) return;
        // What it wants, or no longer wants, may be a matter of any node's labels.
        for (const { metadata } of nodes.list()) nodeQueue.add(metadata.name);
      }),
    );
    listeners.use(plans.onChange(({ key }) => imageQueue.add(key)));
    listeners.use(nodes.onChange(({ key }) => nodeQueue.add(key)));
    listeners.use(reports.onChange(({ key }) => nodeQueue.add(key)));
    listeners.use(
      pods.onChange(({ object: { spec } }) => {
        if (spec?.nodeName !== undefined) nodeQueue.add(spec.nodeName);
      }),
    );

    const deps = { ...this.#deps, ...this.#metrics, ...this.#settings, tally: this.#tally };
    const lookAlive = (node: string): number | undefined => this.#monitor.lookAlive(node);
    await using group = new TaskGroup(signal);
    const reconcilers = [
      { queue: imageQueue, reconcile: imageReconciler(deps) },
      { queue: nodeQueue, reconcile: nodeReconciler({ ...deps, lookAlive, patchIntervalMs }) },
    ];
    await Promise.all(
      reconcilers.map(({ queue, reconcile }) =>
        group.run((scope) => queue.run(reconcile, { workers, log, signal: scope })),
      ),
    );
  }

  [Symbol.dispose](): void {
    this.#monitor[Symbol.dispose]();
  }
}
