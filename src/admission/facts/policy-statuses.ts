import type { ImagePolicy } from "#api/v1/image-policy.ts";
import { imagePolicies } from "#api/v1/resources.ts";
import type { Clock } from "#async/clock.ts";
import type { KubeClient } from "#kube/client.ts";
import type { Informer } from "#kube/informer.ts";
import { settled, type Reconcile } from "#kube/reconcile.ts";
import { WorkQueue } from "#kube/work-queue.ts";
import type { Log } from "#telemetry/log.ts";
import type { Registry } from "#telemetry/metrics.ts";
import type { ClusterFacts } from "./cluster-facts.ts";
import { policyStatusOf } from "./policy-status.ts";

/** There are few policies, and they change when a person changes them. */
const workers = 1;

const backoff = { minMs: 200, maxMs: 60_000 };

export interface PolicyStatusesDeps {
  client: Pick<KubeClient, "replace">;
  policies: Pick<Informer<ImagePolicy>, "get" | "list" | "onChange">;
  facts: Pick<ClusterFacts, "alwaysPulls" | "onAlwaysPulls">;
  clock: Clock;
  random: () => number;
  log: Log;
  metrics: Registry;
}

/** Tells in the status of each ImagePolicy whether it works. */
export class PolicyStatuses {
  readonly #deps: PolicyStatusesDeps;

  constructor(deps: PolicyStatusesDeps) {
    this.#deps = deps;
  }

  /** Reconciles until aborted. The caches must be filled. */
  async lead(signal: AbortSignal): Promise<void> {
    const { policies, facts, clock, random, metrics, log } = this.#deps;
    const queue = new WorkQueue({ name: "imagepolicy", clock, random, backoff, metrics });
    using listeners = new DisposableStack();
    listeners.use(policies.onChange(({ key }) => queue.add(key)));
    listeners.use(
      facts.onAlwaysPulls(() => {
        for (const { metadata } of policies.list()) queue.add(metadata.name);
      }),
    );
    await queue.run(policyReconciler(this.#deps), { workers, log, signal });
  }
}

/** Keeps the status of an ImagePolicy. It writes nothing while that is right. */
function policyReconciler({
  client,
  policies,
  facts,
  clock,
}: Pick<PolicyStatusesDeps, "client" | "policies" | "facts" | "clock">): Reconcile {
  return async function reconcile(key, { log, signal }) {
    const policy = policies.get(key);
    if (!policy || policy.metadata.deletionTimestamp !== undefined) return settled;
    const { alwaysPulls } = facts;
    const status = policyStatusOf(policy, { alwaysPulls, now: clock.now() });
    if (!status) return settled;
    // With the version that was read: what was told of an older spec must not pass for this one.
    await client.replace(imagePolicies, { ...policy, status }, { subresource: "status", signal });
    const isReady = status.conditions?.some(
      ({ type, status: is }) => type === "Ready" && is === "True",
    );
    log.info("ImagePolicy status written", { name: key, isReady });
    return settled;
  };
}
