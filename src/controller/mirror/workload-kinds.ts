import { isJsonObject, type JsonObject } from "#json/json.ts";
import type { Resource } from "#kube/resource.ts";
import { parseObject } from "#kube/shape.ts";
import type { KubeObject } from "#kube/types.ts";
import { imageKeys } from "./image-keys.ts";

/** An object that refers to images; of it nothing else is kept. */
export interface ImageUser extends KubeObject {
  /** As `image-keys.ts` makes them, each once. */
  readonly images: readonly string[];
}

/** Different texts to remember what they refer to; a bound for clusters in which everything differs. */
const maxShared = 65_536;

const templatePath = ["spec", "template"];

/** Everything in which pods are described, and where: also what is kept for going back to it. */
const kinds = [
  { group: "", plural: "pods", kind: "Pod", path: [] },
  {
    group: "",
    plural: "replicationcontrollers",
    kind: "ReplicationController",
    path: templatePath,
  },
  { group: "", plural: "podtemplates", kind: "PodTemplate", path: ["template"] },
  { group: "apps", plural: "deployments", kind: "Deployment", path: templatePath },
  { group: "apps", plural: "replicasets", kind: "ReplicaSet", path: templatePath },
  { group: "apps", plural: "statefulsets", kind: "StatefulSet", path: templatePath },
  { group: "apps", plural: "daemonsets", kind: "DaemonSet", path: templatePath },
  {
    group: "apps",
    plural: "controllerrevisions",
    kind: "ControllerRevision",
    path: ["data", ...templatePath],
  },
  { group: "batch", plural: "jobs", kind: "Job", path: templatePath },
  {
    group: "batch",
    plural: "cronjobs",
    kind: "CronJob",
    path: ["spec", "jobTemplate", ...templatePath],
  },
];

/**
 * Makes the resources to watch. They keep little of what they read, and share what is the same in many objects.
 *
 * Nothing of an object that looks odd makes it unreadable: it would be skipped, and what it refers to removed.
 */
export function imageUserResources(): Resource<ImageUser>[] {
  const known = new Map<string, readonly string[]>();
  const keysOf = (text: string): readonly string[] => {
    const found = known.get(text);
    if (found) return found;
    if (known.size >= maxShared) known.clear();
    const keys = imageKeys(text);
    known.set(text, keys);
    return keys;
  };
  return kinds.map(({ path, ...names }) => ({
    ...names,
    version: "v1",
    namespaced: true,
    parse(value) {
      const { metadata } = parseObject(value);
      const { name, namespace, uid, resourceVersion } = metadata;
      return {
        metadata: {
          name,
          ...(namespace !== undefined && { namespace }),
          ...(uid !== undefined && { uid }),
          ...(resourceVersion !== undefined && { resourceVersion }),
        },
        images: [...new Set(imagesIn(within(value, path)).flatMap(keysOf))],
      };
    },
  }));
}

/** Lists the images that a pod, or a template for pods, names or has. */
function imagesIn(pod: JsonObject): string[] {
  const spec = within(pod, ["spec"]);
  const status = within(pod, ["status"]);
  const containers = ["initContainers", "containers", "ephemeralContainers"];
  const statuses = ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"];
  const found = [
    ...containers.flatMap((field) => itemsOf(spec, field).map(({ image }) => image)),
    ...itemsOf(spec, "volumes").map((volume) => within(volume, ["image"])["reference"]),
    ...statuses.flatMap((field) => itemsOf(status, field).map(({ imageID }) => imageID)),
  ];
  return found.filter((text) => typeof text === "string");
}

/** The object at a path; an empty one if there is none. */
function within(value: unknown, path: readonly string[]): JsonObject {
  let place = value;
  for (const name of path) place = isJsonObject(place) ? place[name] : undefined;
  return isJsonObject(place) ? place : {};
}

function itemsOf(object: JsonObject, field: string): JsonObject[] {
  const list = object[field];
  return Array.isArray(list) ? list.filter(isJsonObject) : [];
}
