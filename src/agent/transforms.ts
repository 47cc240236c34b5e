import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { NodeReport } from "#api/v1/node-report.ts";
import type { Node, ObjectMeta } from "#kube/types.ts";

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

/** Keeps what the agent reads of its NodeReport. */
export function slimReport({ metadata, status }: NodeReport): NodeReport {
  const { ownerReferences } = metadata;
  return {
    metadata: { ...slimMetadata(metadata), ...(ownerReferences && { ownerReferences }) },
    ...(status && { status }),
  };
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
