import type { Image } from "#api/v1/image.ts";
import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { NodeReport } from "#api/v1/node-report.ts";
import type { Clock } from "#async/clock.ts";
import type { Informer } from "#kube/informer.ts";
import type { KubeObject, Node, Pod } from "#kube/types.ts";
import { isPlanOf } from "./image/plan.ts";
import type { Tally } from "./image/tally.ts";
import type { ImageFacts, NodeFacts } from "./image/counts.ts";
import { agentPodOf, type Liveness } from "./node/liveness.ts";

/** What an informer tells. */
export type Feed<T extends KubeObject> = Pick<Informer<T>, "get" | "onChange">;

export interface MonitorDeps {
  images: Feed<Image>;
  plans: Feed<ImagePlan>;
  nodes: Feed<Node>;
  reports: Feed<NodeReport>;
  /** Coral's pods, of which the agents' count. */
  pods: Feed<Pod>;
  tally: Tally;
  liveness: Liveness;
  clock: Clock;
}

/**
 * Leads every change of the cluster to the counts. It runs on every replica, so that a new leader
 * starts with right numbers.
 */
export class Monitor implements Disposable {
  readonly #deps: MonitorDeps;
  readonly #listeners = new DisposableStack();

  constructor(deps: MonitorDeps) {
    this.#deps = deps;
    const { images, plans, nodes, reports, pods, tally, liveness } = deps;
    this.#listeners.use(images.onChange(({ key }) => this.#countImage(key)));
    this.#listeners.use(plans.onChange(({ key }) => this.#countImage(key)));
    this.#listeners.use(
      nodes.onChange(({ type, key, object }) => {
        if (type === "deleted") {
          tally.removeNode(key);
          liveness.forget(key);
          tally.setAlive(key, false);
          return;
        }
        tally.setNode(key, nodeFactsOf(object));
        liveness.setLost(key, isLost(object));
        this.lookAlive(key);
        if (type === "added") this.#countReport(key); // Whose report it is may be clear only now.
      }),
    );
    this.#listeners.use(reports.onChange(({ key }) => this.#countReport(key)));
    this.#listeners.use(
      pods.onChange(({ type, key, object }) => {
        const node = liveness.setPod(key, type === "deleted" ? undefined : agentPodOf(object));
        if (node !== undefined) this.lookAlive(node);
      }),
    );
  }

  /** Looks whether a node is alive. @returns in how many milliseconds to look again. */
  lookAlive(node: string): number | undefined {
    const { nodes, liveness, tally, clock } = this.#deps;
    // Not heard of yet, or gone: nothing that is kept of it would ever be forgotten.
    if (!nodes.get(node)) return undefined;
    const { isAlive, changesInMs } = liveness.look(node, clock.now().getTime());
    tally.setAlive(node, isAlive);
    return changesInMs;
  }

  /**
   * Counts an Image by its plan, which agents act on too, and by its own selector: the plan of one that
   * makes no sense has none. Between two plans, the last one counts.
   */
  #countImage(key: string): void {
    const { images, plans, tally } = this.#deps;
    const image = images.get(key);
    const plan = plans.get(key);
    if (!image) tally.removeImage(key);
    else if (plan && isPlanOf(plan, image)) tally.setImage(key, factsOf(image, plan));
  }

  /**
   * Counts what a node reports. The report of an earlier node of its name says nothing of this one; it
   * stands until the garbage collector or the new agent has come round.
   */
  #countReport(node: string): void {
    const { nodes, reports, tally } = this.#deps;
    const { metadata, status } = reports.get(node) ?? {};
    const uid = nodes.get(node)?.metadata.uid;
    const owner = metadata?.ownerReferences?.find(({ kind }) => kind === "Node");
    const isOfAnother = owner !== undefined && uid !== undefined && owner.uid !== uid;
    tally.setReport(node, isOfAnother ? [] : (status?.images ?? []));
  }

  [Symbol.dispose](): void {
    this.#listeners.dispose();
  }
}

function factsOf({ spec }: Image, plan: ImagePlan): ImageFacts {
  const { images, imagePullPolicy } = plan.spec;
  const digests = images.flatMap(({ reference, digest }) =>
    digest === undefined ? [] : [[reference, digest] as const],
  );
  return {
    references: images.map(({ reference }) => reference),
    selector: spec.selector,
    hasNodeLabels: spec.nodeLabels === "PerImage",
    ...(imagePullPolicy === "Always" && { digests: new Map(digests) }),
  };
}

/** Nodes without the label are older than it, and run Linux. */
function nodeFactsOf({ metadata }: Node): NodeFacts {
  const { labels = {}, deletionTimestamp, creationTimestamp } = metadata;
  const isLinux = (labels["kubernetes.io/os"] ?? "linux") === "linux";
  return {
    labels,
    isTarget: isLinux && deletionTimestamp === undefined,
    createdMs: creationTimestamp === undefined ? 0 : Date.parse(creationTimestamp),
  };
}

/** Whether nothing has been heard of its kubelet for so long that Kubernetes has given it up. */
function isLost({ status }: Node): boolean {
  return (
    status?.conditions?.some(({ type, status: is }) => type === "Ready" && is === "Unknown") ??
    false
  );
}
