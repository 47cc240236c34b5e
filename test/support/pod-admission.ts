import { ClusterFacts } from "#admission/facts/cluster-facts.ts";
import { fixedFeed } from "#admission/facts/feed.ts";
import { decidePod } from "#admission/pods/decide.ts";
import type { JsonPatchOperation } from "#admission/pods/json-patch.ts";
import type { PodDecision, PodFacts, PodRequest } from "#admission/pods/model.ts";
import { patchOf } from "#admission/pods/patch.ts";
import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { ImagePolicy } from "#api/v1/image-policy.ts";
import type { Image } from "#api/v1/image.ts";
import { isJsonObject, type JsonObject } from "#json/json.ts";
import type { Node, Pod } from "#kube/types.ts";
import { silentLog } from "#telemetry/log.ts";
import { jsonPatch } from "./fake-api-server-patch.ts";

/** What is in a cluster, as far as decisions about pods depend on it. */
export interface PodWorld {
  readonly nodes?: readonly Node[];
  readonly plans?: readonly ImagePlan[];
  readonly images?: readonly Image[];
  readonly policies?: readonly ImagePolicy[];
  readonly namespaces?: readonly string[];
  readonly ownPods?: readonly Pod[];
  readonly hasSynced?: boolean;
}

/** Makes the facts of a cluster with the namespaces `team` and `other`, and Coral in `coral-system`. */
export function factsOf(world: PodWorld = {}): PodFacts {
  const { namespaces = ["team", "other", "coral-system"], hasSynced = true } = world;
  return new ClusterFacts({
    policies: { ...fixedFeed(world.policies ?? []), hasSynced },
    plans: fixedFeed(world.plans ?? []),
    images: fixedFeed(world.images ?? []),
    nodes: fixedFeed(world.nodes ?? []),
    namespaces: fixedFeed(namespaces.map((name) => ({ metadata: { name } }))),
    ownPods: fixedFeed(world.ownPods ?? []),
    ownNamespace: "coral-system",
    log: silentLog,
  });
}

/** Makes the request for a new pod, unless told otherwise. */
export function aRequest(pod: JsonObject, more: Partial<PodRequest> = {}): PodRequest {
  return {
    operation: "CREATE",
    subresource: "",
    namespace: "team",
    user: "ada",
    groups: ["developers"],
    pod,
    oldPod: undefined,
    ...more,
  };
}

/** What admission makes of a pod. */
export interface Admitted {
  readonly decision: PodDecision;
  readonly patch: readonly JsonPatchOperation[];
  readonly pod: JsonObject;
}

/** Decides about a request, and carries the decision out. */
export function admit(request: PodRequest, facts: PodFacts): Admitted {
  const decision = decidePod(request, facts);
  const patch = patchOf(request, decision);
  const patched = jsonPatch(request.pod, patch);
  return { decision, patch, pod: isJsonObject(patched) ? patched : {} };
}
