import type { Informer } from "#kube/informer.ts";
import type { Pod } from "#kube/types.ts";

/** Selects all of Coral's pods. */
export const podSelector = "app.kubernetes.io/name=coral";

/** Which part of Coral a pod is, like `agent`. */
export function componentOf({ metadata: { labels } }: Pod): string | undefined {
  return labels?.["app.kubernetes.io/component"];
}

/**
 * Knows the addresses of the controller's replicas that are Ready, as the API server tells them. What
 * a request says of itself anybody can say, and the address of a pod that has ended is given again.
 */
export class ReplicaAddresses implements Disposable {
  readonly #listener: Disposable;
  /** By the pod's key. */
  readonly #addresses = new Map<string, string>();

  /** @param pods - Coral's. */
  constructor(pods: Pick<Informer<Pod>, "onChange">) {
    this.#listener = pods.onChange(({ type, key, object }) => {
      const address = type === "deleted" ? undefined : replicaAddressOf(object);
      if (address === undefined) this.#addresses.delete(key);
      else this.#addresses.set(key, address);
    });
  }

  /** Whether a replica is at an address. */
  has(address: string): boolean {
    return this.#addresses.values().some((each) => each === address);
  }

  [Symbol.dispose](): void {
    this.#listener[Symbol.dispose]();
  }
}

function replicaAddressOf(pod: Pod): string | undefined {
  const { podIP, conditions = [] } = pod.status ?? {};
  const isReady = conditions.some(({ type, status }) => type === "Ready" && status === "True");
  return isReady && componentOf(pod) === "controller" ? podIP : undefined;
}
