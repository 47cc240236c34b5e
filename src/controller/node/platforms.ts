import type { Informer } from "#kube/informer.ts";
import type { Node } from "#kube/types.ts";

/** Knows the platforms of the cluster's nodes, like `linux/arm64`. */
export class NodePlatforms implements Disposable {
  readonly #onJoined: () => void;
  readonly #listener: Disposable;
  readonly #nodesWith = new Map<string, number>();
  #current: ReadonlySet<string> = new Set();

  /** @param onJoined - is told when there is a platform that was not there before. */
  constructor(nodes: Pick<Informer<Node>, "onChange">, onJoined: () => void) {
    this.#onJoined = onJoined;
    this.#listener = nodes.onChange((change) => {
      const before = change.type === "added" ? undefined : platformOf(change.previous);
      const after = change.type === "deleted" ? undefined : platformOf(change.object);
      if (before !== after) this.#move(before, after);
    });
  }

  /** The platforms now. The set never changes: later there is another one. */
  get current(): ReadonlySet<string> {
    return this.#current;
  }

  [Symbol.dispose](): void {
    this.#listener[Symbol.dispose]();
  }

  #move(before: string | undefined, after: string | undefined): void {
    const hasLeft = before !== undefined && this.#count(before, -1) === 0;
    const hasJoined = after !== undefined && this.#count(after, 1) === 1;
    if (!hasLeft && !hasJoined) return;
    this.#current = new Set(this.#nodesWith.keys());
    if (hasJoined) this.#onJoined();
  }

  /** @returns how many nodes there are of the platform. */
  #count(platform: string, by: 1 | -1): number {
    const nodes = (this.#nodesWith.get(platform) ?? 0) + by;
    if (nodes > 0) this.#nodesWith.set(platform, nodes);
    else this.#nodesWith.delete(platform);
    return nodes;
  }
}

/** From the labels that every kubelet sets. */
function platformOf({ metadata: { labels = {} } }: Node): string {
  return `${labels["kubernetes.io/os"] ?? "linux"}/${labels["kubernetes.io/arch"] ?? "amd64"}`;
}
