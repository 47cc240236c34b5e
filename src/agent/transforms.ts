import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { KubeObject, Node, ObjectMeta } from "#kube/types.ts";

/** Keeps what the agent reads of a Node: most of one is a list of images that are on it. */
export function slimNode({ metadata, status: { conditions = [], nodeInfo } = {} }: Node): Node {
  const { operatingSystem, architecture } = nodeInfo ?? {};
  return {
    metadata: slimMetadata(metadata),
    status: {
      conditions,
      nodeInfo: {
        ...(operatingSystem !== undefined && { operatingSystem }),
        ...(architecture !== undefined && { architecture }),
      },
    },
  };
}

/** Keeps what the agent is told of its NodeReport: which it is, and who owns it. */
export function slimReport({ metadata }: KubeObject): KubeObject {
  const { ownerReferences } = metadata;
  return { metadata: { ...slimMetadata(metadata), ...(ownerReferences && { ownerReferences }) } };
}

/** Keeps what the agent reads of an ImagePlan. */
export function slimPlan({ metadata, spec }: ImagePlan): ImagePlan {
  return { metadata: slimMetadata(metadata), spec };
}

/** Leaves out annotations and who manages which field, which can be longer than all the rest. */
function slimMetadata(metadata: ObjectMeta): ObjectMeta {
  const { name, namespace, uid, resourceVersion, generation, labels } = metadata;
  return {
    name,
    ...(namespace !== undefined && { namespace }),
    ...(uid !== undefined && { uid }),
    ...(resourceVersion !== undefined && { resourceVersion }),
    ...(generation !== undefined && { generation }),
    ...(labels !== undefined && { labels }),
  };
}
