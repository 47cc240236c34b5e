import { isDeepStrictEqual } from "node:util";

import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { Image } from "#api/v1/image.ts";
import type { NodeReport } from "#api/v1/node-report.ts";
import type { Clock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import type { KubeClient } from "#kube/client.ts";
import type { EventRecorder } from "#kube/events.ts";
import type { Informer } from "#kube/informer.ts";
import { formatKey, keyOf } from "#kube/key.ts";
import type { Change } from "#kube/object-cache.ts";
import type { Node, Pod } from "#kube/types.ts";
import { WorkQueue } from "#kube/work-queue.ts";
import type { KeyringEntry } from "#remote/keyring.ts";
import { repositoryLogins, type LoginProviders } from "#secrets/repository-logins.ts";
import type { Log } from "#telemetry/log.ts";
import type { Registry } from "#telemetry/metrics.ts";
import { totalOf } from "./image/counts.ts";
import { imageReconciler, secretNamesOf, type PullSecrets } from "./image/reconciler.ts";
import { hasBounds, type Quota } from "./image/quota.ts";
import { isOlder, QuotaUsage } from "./image/quota-usage.ts";
import type { RegistryLookup } from "./image/registry-lookup.ts";
import { Resolver } from "./image/resolver.ts";
import { Tally } from "./image/tally.ts";
import { controllerMetrics, type ControllerMetrics } from "./metrics.ts";
import { Monitor } from "./monitor.ts";
import { agentPodOf, Liveness } from "./node/liveness.ts";
import { NodePlatforms } from "./node/platforms.ts";
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
  /** How often registries are asked again about what may change there. */
  readonly resolveIntervalMs: number;
  /** What the Images of each namespace may ask for. */
  readonly quota: Quota;
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
  /** Coral's pods, of which the agents' count. */
  pods: Cache<Pod>;
  registry: RegistryLookup;
  pullSecrets: PullSecretCache;
  providers: LoginProviders;
  recorder: Pick<EventRecorder, "record">;
  clock: Clock;
  random: () => number;
  log: Log;
  metrics: Registry;
}

/** What is known of the Secrets that Images name. */
export interface PullSecretCache extends PullSecrets {
  /** What Secrets of a namespace hold, in the order of the names. */
  entriesFor(namespace: string, names: readonly string[]): readonly KeyringEntry[];
  /** Hears of each Secret that changed. */
  onChange(listener: (secret: { namespace: string; name: string }) => void): Disposable;
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
  /** Hears of each node that gets other labels because Images want something else. */
  #onLabels: ((node: string) => void) | undefined;

  constructor(settings: ControllerSettings, deps: ControllerDeps) {
    this.#settings = settings;
    this.#deps = deps;
    this.#metrics = controllerMetrics(deps.metrics);
    this.#tally = new Tally(
      (key) => this.#onCounted?.(key),
      (node) => this.#onLabels?.(node),
    );
    const liveness = new Liveness({ graceMs: settings.agentGraceMs });
    this.#monitor = new Monitor({ ...deps, tally: this.#tally, liveness });
  }

  /** Reconciles until aborted. The caches must be filled: what they lack would pass for deleted. */
  async lead(signal: AbortSignal): Promise<void> {
    const { images, plans, reports, nodes, pods, pullSecrets } = this.#deps;
    const { providers, registry, clock, random, metrics, log } = this.#deps;
    const common = { clock, random, backoff, metrics };
    const imageQueue = new WorkQueue({ name: "image", ...common });
    const nodeQueue = new WorkQueue({ name: "node", ...common });
    using listeners = new DisposableStack();
    this.#onCounted = (key) => imageQueue.add(key);
    listeners.defer(() => (this.#onCounted = undefined));
    this.#onLabels = (node) => nodeQueue.add(node);
    listeners.defer(() => (this.#onLabels = undefined));
    const usage = new QuotaUsage();
    const takeStock = ({ key }: { key: string }): void => {
      const image = images.get(key);
      const plan = plans.get(key);
      if (image && plan) usage.set(image, plan.spec);
      else usage.delete(key);
    };
    const isBounded = hasBounds(this.#settings.quota);
    if (isBounded) {
      listeners.use(images.onChange(takeStock));
      listeners.use(plans.onChange(takeStock));
    }
    // Each listener is told of all that is there already: a new leader looks at everything once.
    listeners.use(images.onChange(({ key }) => imageQueue.add(key)));
    listeners.use(
      plans.onChange((change) => {
        imageQueue.add(change.key);
        if (!isBounded || !takesOther(change)) return;
        // What it takes, younger Images of the namespace cannot have, and what it gives up, they can.
        const { metadata } = change.object;
        for (const image of images.list({ namespace: metadata.namespace ?? "" })) {
          if (isOlder(metadata, image.metadata)) imageQueue.add(formatKey(keyOf(image)));
        }
      }),
    );
    listeners.use(
      pullSecrets.onChange((secret) => {
        for (const image of images.list()) {
          if (namesSecret(image, secret)) imageQueue.add(formatKey(keyOf(image)));
        }
      }),
    );
    listeners.use(nodes.onChange(({ key }) => nodeQueue.add(key)));
    listeners.use(reports.onChange(({ key }) => nodeQueue.add(key)));
    listeners.use(
      pods.onChange(({ object }) => {
        const agent = agentPodOf(object);
        if (agent) nodeQueue.add(agent.node);
      }),
    );

    const resolver = new Resolver({
      registry,
      images,
      loginsFor: async (image, repository, scope) => {
        const { namespace = "" } = image.metadata;
        const entries = pullSecrets.entriesFor(namespace, secretNamesOf(image));
        return repositoryLogins(repository, { entries, providers }, scope);
      },
      platforms: () => platforms.current,
      onFound: (key, afterMs) => imageQueue.addAfter(key, afterMs),
      intervalMs: this.#settings.resolveIntervalMs,
      clock,
      random,
      log,
      metrics,
      lookups: this.#metrics.lookups,
    });
    const platforms = listeners.use(new NodePlatforms(nodes, () => resolver.readNewSizes()));
    const deps = {
      ...this.#deps,
      ...this.#metrics,
      ...this.#settings,
      tally: this.#tally,
      resolver,
      usage,
    };
    const lookAlive = (node: string): number | undefined => this.#monitor.lookAlive(node);
    await using group = new TaskGroup(signal);
    const reconcilers = [
      { queue: imageQueue, reconcile: imageReconciler(deps) },
      { queue: nodeQueue, reconcile: nodeReconciler({ ...deps, lookAlive, patchIntervalMs }) },
    ];
    await Promise.all([
      group.run((scope) => resolver.run(scope)),
      ...reconcilers.map(({ queue, reconcile }) =>
        group.run((scope) => queue.run(reconcile, { workers, log, signal: scope })),
      ),
    ]);
  }

  /** How many nodes an Image is for; `undefined` while it is not counted. */
  totalNodesOf(imageKey: string): number | undefined {
    const nodes = this.#tally.nodeCountsOf(imageKey);
    return nodes && totalOf(nodes);
  }

  [Symbol.dispose](): void {
    this.#monitor[Symbol.dispose]();
  }
}

/** Whether a plan takes other images of its namespace's quota than before, or larger ones. */
function takesOther(change: Change<ImagePlan>): boolean {
  const before = change.type === "updated" ? change.previous?.spec.images : undefined;
  return !isDeepStrictEqual(takenBy(before), takenBy(change.object.spec.images));
}

function takenBy(images: ImagePlan["spec"]["images"] = []): unknown {
  return images.map(({ reference, sizes }) => [reference, sizes]);
}

function namesSecret(image: Image, secret: { namespace: string; name: string }): boolean {
  return (
    image.metadata.namespace === secret.namespace && secretNamesOf(image).includes(secret.name)
  );
}
