import type { Clock } from "#async/clock.ts";
import type { KubeClient } from "#kube/client.ts";
import type { Lister } from "#kube/lister.ts";
import { settled, type Reconcile } from "#kube/reconcile.ts";
import { nodes } from "#kube/resource.ts";
import type { Node } from "#kube/types.ts";
import type { Counter } from "#telemetry/metrics.ts";
import type { Tally } from "#controller/image/tally.ts";
import { labelChange, rememberedLabels } from "./labels.ts";

export interface NodeDeps {
  client: Pick<KubeClient, "patch">;
  nodes: Lister<Node>;
  tally: Pick<Tally, "labelledOn">;
  /** Looks whether the node is alive. @returns in how many milliseconds to look again. */
  lookAlive: (node: string) => number | undefined;
  clock: Clock;
  labelPatches: Counter<{}>;
  /** The least time between two patches of one Node. Changes that come meanwhile go together. */
  patchIntervalMs: number;
}

/**
 * Keeps a Node's image labels as its agent reports, with one patch for all that changed, and looks
 * when a silent agent counts as dead.
 */
export function nodeReconciler(deps: NodeDeps): Reconcile {
  const patchedAtMs = new Map<string, number>();
  const labelOf = rememberedLabels();

  return async function reconcile(name, { log, signal }) {
    const { client, tally, clock, patchIntervalMs } = deps;
    const requeueAfterMs = deps.lookAlive(name);
    const rest = requeueAfterMs === undefined ? settled : { requeueAfterMs };
    const node = deps.nodes.get(name);
    if (!node) {
      patchedAtMs.delete(name);
      return rest; // Its agent's grace period has yet to end.
    }
    const change = labelChange(node.metadata.labels ?? {}, tally.labelledOn(name), labelOf);
    if (!change) return rest;
    const nowMs = clock.now().getTime();
    const sinceMs = nowMs - (patchedAtMs.get(name) ?? -Infinity);
    // Our own last patch may not have come back by the watch yet, and would be sent again.
    if (sinceMs >= 0 && sinceMs < patchIntervalMs)
      return { requeueAfterMs: patchIntervalMs - sinceMs };
    const body = { metadata: { labels: change } };
    await client.patch(nodes, { name }, { type: "merge", body, signal });
    patchedAtMs.set(name, nowMs);
    deps.labelPatches.inc({});
    log.debug("node labels changed", { node: name, changed: Object.keys(change).length });
    return rest;
  };
}
