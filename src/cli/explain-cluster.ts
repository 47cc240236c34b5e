import { ClusterFacts } from "#admission/facts/cluster-facts.ts";
import { fixedFeed } from "#admission/facts/feed.ts";
import { imagePlans, imagePolicies, images } from "#api/v1/resources.ts";
import { podSelector } from "#controller/pods.ts";
import { isJsonObject, textOf, type JsonObject } from "#json/json.ts";
import type { KubeClient, Selection } from "#kube/client.ts";
import { ApiError } from "#kube/errors.ts";
import {
  MalformedObjectError,
  metadataOf,
  namespaces,
  nodes,
  pods,
  type Resource,
} from "#kube/resource.ts";
import type { KubeObject } from "#kube/types.ts";
import { silentLog } from "#telemetry/log.ts";
import type { Creator } from "./explanation.ts";
import type { ClusterView } from "./whereabouts.ts";

type Scope = { signal: AbortSignal };

/** What a cluster has that decisions are made from, as it was when it was read. */
export interface ReadCluster extends ClusterView {
  /** What could not be read, and does not keep anything from being explained. */
  readonly notes: readonly string[];
}

/**
 * Reads once what the controller watches.
 *
 * @param ownNamespace - where Coral runs.
 * @throws {ApiError} of what may not be read, or is not there because Coral is not.
 */
export async function readCluster(
  client: Pick<KubeClient, "listRaw">,
  { ownNamespace, signal }: Scope & { ownNamespace: string },
): Promise<ReadCluster> {
  const notes: string[] = [];
  const read = async <T extends KubeObject>(
    resource: Resource<T>,
    selection: Selection = {},
  ): Promise<T[]> => {
    const { items } = await client.listRaw(resource, { ...selection, signal });
    return items.flatMap((item) => usable(resource, item));
  };
  const [policies, plans, imageList, nodeList, namespaceList, ownPods] = await Promise.all([
    read(imagePolicies),
    read(imagePlans),
    read(images),
    read(nodes),
    read(metadataOf(namespaces)),
    read(pods, { namespace: ownNamespace, labelSelector: podSelector }).catch(noneIfForbidden),
  ]);
  const facts = new ClusterFacts({
    policies: fixedFeed(policies),
    plans: fixedFeed(plans),
    images: fixedFeed(imageList),
    nodes: fixedFeed(nodeList),
    namespaces: fixedFeed(namespaceList),
    ownPods: fixedFeed(ownPods ?? []),
    ownNamespace,
    log: silentLog,
  });
  if (ownPods?.length === 0) {
    notes.push(`Coral has no pods in the namespace "${ownNamespace}": see --coral-namespace`);
  }
  if (!ownPods) {
    notes.push(
      `the pods of "${ownNamespace}" cannot be read, which would tell whether the API server always pulls images`,
    );
  }
  const ready = new Set(facts.policies.map(({ name }) => name));
  for (const { metadata } of policies) {
    if (!ready.has(metadata.name)) {
      notes.push(
        `ImagePolicy "${metadata.name}" makes no sense, and is ignored: its status says why`,
      );
    }
  }
  return { facts, nodes: nodeList, notes };
}

/** What cannot be read the controller leaves out as well. */
function usable<T extends KubeObject>(resource: Resource<T>, item: unknown): T[] {
  try {
    return [resource.parse(item)];
  } catch (error) {
    if (!(error instanceof MalformedObjectError)) throw error;
    return [];
  }
}

function noneIfForbidden(error: unknown): undefined {
  if (error instanceof ApiError && error.status === 403) return undefined;
  throw error;
}

/** Reads a pod as it is stored; `undefined` if there is none of that name. @throws {ApiError} */
export async function readPod(
  client: Pick<KubeClient, "get">,
  { name, namespace, signal }: Scope & { name: string; namespace: string },
): Promise<JsonObject | undefined> {
  const pod: unknown = await client.get(pods, { name, namespace }, { signal });
  return isJsonObject(pod) ? pod : undefined;
}

/** Controllers of kube-controller-manager, by the kind of the owner of pods that they make. */
const controllers: ReadonlyMap<string, string> = new Map([
  ["ReplicaSet", "replicaset-controller"],
  ["ReplicationController", "replication-controller"],
  ["StatefulSet", "statefulset-controller"],
  ["DaemonSet", "daemon-set-controller"],
  ["Job", "job-controller"],
]);

/** Tells who makes pods like this one, by its owner; `undefined` if a person or a program of theirs does. */
export function creatorOf({ metadata }: JsonObject): Creator | undefined {
  const references: unknown = isJsonObject(metadata) ? metadata["ownerReferences"] : undefined;
  const owners: readonly unknown[] = Array.isArray(references) ? references : [];
  const owner = owners.filter(isJsonObject).find(({ controller }) => controller === true);
  const name = owner && controllers.get(textOf(owner["kind"]));
  if (name === undefined) return undefined;
  const user = `system:serviceaccount:kube-system:${name}`;
  return {
    user,
    groups: [
      "system:serviceaccounts",
      "system:serviceaccounts:kube-system",
      "system:authenticated",
    ],
  };
}

/** Asks the API server who we are; `undefined` if it does not say. */
export async function whoAmI(
  client: Pick<KubeClient, "request">,
  { signal }: Scope,
): Promise<Creator | undefined> {
  const review = { apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" };
  const path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
  const { status, body } = await client.request({ method: "POST", path, body: review, signal });
  const answer = isJsonObject(body) && status < 300 ? body["status"] : undefined;
  const info = isJsonObject(answer) ? answer["userInfo"] : undefined;
  if (!isJsonObject(info)) return undefined;
  const groups: readonly unknown[] = Array.isArray(info["groups"]) ? info["groups"] : [];
  return {
    user: textOf(info["username"]),
    groups: groups.filter((group) => typeof group === "string"),
  };
}
