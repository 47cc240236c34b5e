import type { Image } from "#api/v1/image.ts";
import type { NodeReport } from "#api/v1/node-report.ts";
import type { Clock } from "#async/clock.ts";
import type { Informer } from "#kube/informer.ts";
import type { KubeObject, Node, Pod } from "#kube/types.ts";
import { planOf } from "./image/plan.ts";
import type { NodeFacts, Tally } from "./image/tally.ts";
import { agentPodOf, type Liveness } from "./node/liveness.ts";

/** What an informer tells. */
export type Feed<T extends KubeObject> = Pick<Informer<T>, "get" | "onChange">;

export interface MonitorDeps {
  images: Feed<Image>;
  nodes: Feed<Node>;
  reports: Feed<NodeReport>;
  /** The agents' pods. */
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
    const { images, nodes, reports, pods, tally, liveness } = deps;
    const counted = new Map<string, number | undefined>();
    this.#listeners.use(
      images.onChange(({ type, key, object }) => {
        const { generation } = object.metadata;
        if (type === "deleted") {
          counted.delete(key);
          tally.removeImage(key);
        } else if (!counted.has(key) || counted.get(key) !== generation) {
          counted.set(key, generation); // A status changes often, and counts for nothing here.
          tally.setImage(key, factsOf(object));
        }
      }),
    );
    this.#listeners.use(
      nodes.onChange(({ type, key, object }) => {
        if (type === "deleted") tally.removeNode(key);
        else tally.setNode(key, nodeFactsOf(object));
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
    const { liveness, tally, clock } = this.#deps;
    const { isAlive, changesInMs } = liveness.look(node, clock.now().getTime());
    tally.setAlive(node, isAlive);
    return changesInMs;
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

function factsOf(image: Image): Parameters<Tally["setImage"]>[1] {
  const { spec } = planOf(image);
  return {
    references: spec.images.map(({ reference }) => reference),
    selector: spec.selector,
    hasNodeLabels: image.spec.nodeLabels === "PerImage",
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
