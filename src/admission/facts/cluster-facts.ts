import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { ImagePolicy } from "#api/v1/image-policy.ts";
import type { Image } from "#api/v1/image.ts";
import type { ImageFact, NodeFact, PodFacts, ReadyPolicy } from "#admission/pods/model.ts";
import type { KubeObject, Node, Pod } from "#kube/types.ts";
import type { Log } from "#telemetry/log.ts";
import { AlwaysPulls } from "./always-pulls.ts";
import type { Feed } from "./feed.ts";
import { ImageIndex } from "./image-index.ts";
import type { Labels } from "./label-selector.ts";
import { NodeIndex } from "./node-index.ts";
import { PolicyList } from "./policy-list.ts";

export interface ClusterFactsDeps {
  policies: Feed<ImagePolicy>;
  plans: Feed<ImagePlan>;
  /** For those without node labels, whose status alone says where they are. */
  images: Feed<Image>;
  nodes: Feed<Node>;
  /** With their labels. */
  namespaces: Feed<KubeObject>;
  /** Coral's pods. */
  ownPods: Feed<Pod>;
  /** Where Coral is. */
  ownNamespace: string;
  log: Log;
}

/**
 * What decisions about pods are made from, kept up as informers tell of changes: a question costs
 * microseconds, however large the cluster. The informers are somebody else's to run.
 */
export class ClusterFacts implements PodFacts, Disposable {
  readonly #deps: ClusterFactsDeps;
  readonly #listeners = new DisposableStack();
  readonly #policies = new PolicyList();
  readonly #nodes = new NodeIndex();
  readonly #images = new ImageIndex();
  readonly #alwaysPulls: AlwaysPulls;
  readonly #alwaysPullsListeners = new Set<() => void>();

  constructor(deps: ClusterFactsDeps) {
    this.#deps = deps;
    const { policies, plans, images, nodes, ownPods, log } = deps;
    this.#alwaysPulls = this.#listeners.use(
      new AlwaysPulls(ownPods, () => {
        for (const listener of this.#alwaysPullsListeners) listener();
      }),
    );
    this.#listeners.use(
      policies.onChange(({ type, key, object }) => {
        if (type === "deleted") return this.#policies.delete(key);
        const problems = this.#policies.set(object);
        if (problems.length === 0) return;
        const [first] = problems;
        log.warn("ImagePolicy ignored", { name: key, problem: first, count: problems.length });
      }),
    );
    this.#listeners.use(
      plans.onChange(({ type, key, object }) => {
        if (type === "deleted") this.#images.deletePlan(key);
        else this.#images.setPlan(key, object);
      }),
    );
    this.#listeners.use(
      images.onChange(({ type, key, object }) => {
        if (type === "deleted") this.#images.deleteImage(key);
        else this.#images.setImage(key, object);
      }),
    );
    this.#listeners.use(
      nodes.onChange(({ type, key, object }) => {
        if (type === "deleted") this.#nodes.delete(key);
        else this.#nodes.set(object);
      }),
    );
  }

  get isFilled(): boolean {
    const { policies, plans, images, nodes, namespaces, ownPods } = this.#deps;
    const feeds = [policies, plans, images, nodes, namespaces, ownPods];
    return feeds.every(({ hasSynced }) => hasSynced);
  }

  get ownNamespace(): string {
    return this.#deps.ownNamespace;
  }

  get alwaysPulls(): boolean {
    return this.#alwaysPulls.isOn;
  }

  /** Calls `listener` whenever `alwaysPulls` has changed. */
  onAlwaysPulls(listener: () => void): Disposable {
    this.#alwaysPullsListeners.add(listener);
    return { [Symbol.dispose]: () => this.#alwaysPullsListeners.delete(listener) };
  }

  get policies(): readonly ReadyPolicy[] {
    return this.#policies.ready;
  }

  namespaceLabels(namespace: string): Labels | undefined {
    const known = this.#deps.namespaces.get({ name: namespace });
    return known && (known.metadata.labels ?? {});
  }

  image(reference: string, namespace: string): ImageFact | undefined {
    const known = this.#images.get(reference, namespace);
    if (!known) return undefined;
    const { label, isPrivate, isOfNamespace, unlabelled } = known;
    return {
      label,
      availableNodes: Math.max(this.#nodes.availableCount(label), unlabelled.available),
      plannedNodes: Math.max(this.#nodes.plannedCount(label), unlabelled.planned),
      isPrivate,
      isOfNamespace,
    };
  }

  countHolding(
    labels: readonly string[],
    fits: (node: NodeFact) => boolean,
    limit: number,
  ): number {
    return this.#nodes.countFitting(labels, fits, limit);
  }

  countFitting(fits: (node: NodeFact) => boolean, limit: number): number {
    return this.#nodes.countFitting([], fits, limit);
  }

  /** Names the ready nodes, taking pods, that hold the image with this label, in order. */
  nodesHolding(label: string): string[] {
    return this.#nodes.namesHolding(label);
  }

  [Symbol.dispose](): void {
    this.#listeners.dispose();
  }
}
