import { componentOf } from "#controller/pods.ts";
import type { Pod } from "#kube/types.ts";

/** What liveness needs to know of an agent's pod. */
export interface AgentPod {
  readonly node: string;
  readonly isReady: boolean;
}

/** Reads it from the pod; `undefined` while it has no node, and if it is no agent's. */
export function agentPodOf(pod: Pod): AgentPod | undefined {
  const { spec, status } = pod;
  if (spec?.nodeName === undefined || componentOf(pod) !== "agent") return undefined;
  const isReady = status?.conditions?.some(
    ({ type, status: is }) => type === "Ready" && is === "True",
  );
  return { node: spec.nodeName, isReady: isReady ?? false };
}

/**
 * Which nodes have an agent that is heard of.
 *
 * A node is alive while one of its agent's pods is Ready, and for a grace period after: an agent that
 * is being updated is no reason to call its node unknown. A node that Kubernetes itself has lost gets
 * no such grace, as it was silent for the better part of a minute by then.
 */
export class Liveness {
  readonly #graceMs: number;
  /** By node, then by the pod's key. */
  readonly #pods = new Map<string, Map<string, AgentPod>>();
  readonly #nodeOf = new Map<string, string>();
  /** Since when a node that was alive has had no Ready pod, in milliseconds since 1970. */
  readonly #silentSinceMs = new Map<string, number>();
  readonly #alive = new Set<string>();
  readonly #lost = new Set<string>();

  constructor({ graceMs }: { graceMs: number }) {
    this.#graceMs = graceMs;
  }

  /** Takes a pod over; `undefined` if it is gone. @returns the node to look at again. */
  setPod(key: string, pod: AgentPod | undefined): string | undefined {
    const node = pod?.node ?? this.#nodeOf.get(key); // A pod never moves.
    if (node === undefined) return undefined;
    const pods = this.#pods.get(node) ?? new Map<string, AgentPod>();
    if (pod) {
      this.#nodeOf.set(key, node);
      this.#pods.set(node, pods.set(key, pod));
    } else {
      this.#nodeOf.delete(key);
      pods.delete(key);
      if (pods.size === 0) this.#pods.delete(node);
    }
    return node;
  }

  /** Takes over whether Kubernetes has lost a node: its condition Ready is Unknown. */
  setLost(node: string, isLost: boolean): void {
    if (isLost) this.#lost.add(node);
    else this.#lost.delete(node);
  }

  /** Forgets a node that is gone. Its pods follow by themselves. */
  forget(node: string): void {
    this.#lost.delete(node);
    this.#alive.delete(node);
    this.#silentSinceMs.delete(node);
  }

  /**
   * Whether a node is alive now. When it is only so because of the grace period, `changesInMs` says in
   * how many milliseconds to ask again.
   */
  look(node: string, nowMs: number): { isAlive: boolean; changesInMs?: number } {
    if (this.#lost.has(node)) {
      this.#alive.delete(node);
      this.#silentSinceMs.delete(node);
      return { isAlive: false };
    }
    const pods = this.#pods.get(node)?.values();
    const isReady = pods?.some((pod) => pod.isReady) ?? false;
    if (isReady) {
      this.#alive.add(node);
      this.#silentSinceMs.delete(node);
      return { isAlive: true };
    }
    if (!this.#alive.has(node)) return { isAlive: false };
    const sinceMs = this.#silentSinceMs.get(node) ?? nowMs;
    this.#silentSinceMs.set(node, sinceMs);
    const leftMs = sinceMs + this.#graceMs - nowMs;
    if (leftMs > 0) return { isAlive: true, changesInMs: leftMs };
    this.#alive.delete(node);
    this.#silentSinceMs.delete(node);
    return { isAlive: false };
  }
}
