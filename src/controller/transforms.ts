import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { Image } from "#api/v1/image.ts";
import type { NodeReport } from "#api/v1/node-report.ts";
import type { Node, ObjectMeta, Pod } from "#kube/types.ts";

// What the controller keeps of each object in its caches. With thousands of nodes, a Node's list of
// images and everybody's managed fields would be most of its memory.

export function slimImage({ metadata, spec, status }: Image): Image {
  return { metadata: slim(metadata), spec, ...(status && { status }) };
}

export function slimPlan({ metadata, spec }: ImagePlan): ImagePlan {
  return { metadata: slim(metadata), spec };
}

export function slimReport({ metadata, status }: NodeReport): NodeReport {
  return { metadata: slim(metadata), ...(status && { status }) };
}

export function slimNode({ metadata }: Node): Node {
  return { metadata: slim(metadata) };
}

export function slimPod({ metadata, spec, status }: Pod): Pod {
  const ready = status?.conditions?.filter(({ type }) => type === "Ready") ?? [];
  return {
    metadata: slim(metadata),
    ...(spec?.nodeName !== undefined && { spec: { nodeName: spec.nodeName } }),
    status: { conditions: ready },
  };
}

function slim(metadata: ObjectMeta): ObjectMeta {
  const { name, namespace, uid, resourceVersion, generation, labels } = metadata;
  const { creationTimestamp, deletionTimestamp, ownerReferences } = metadata;
  return {
    name,
    ...(namespace !== undefined && { namespace }),
    ...(uid !== undefined && { uid }),
    ...(resourceVersion !== undefined && { resourceVersion }),
    ...(generation !== undefined && { generation }),
    ...(labels !== undefined && { labels }),
    ...(creationTimestamp !== undefined && { creationTimestamp }),
    ...(deletionTimestamp !== undefined && { deletionTimestamp }),
    ...(ownerReferences !== undefined && { ownerReferences }),
  };
}
