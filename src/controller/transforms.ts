import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { Image } from "#api/v1/image.ts";
import type { MirrorShard } from "#api/v1/mirror-shard.ts";
import { runAnnotation, type Mirror } from "#api/v1/mirror.ts";
import type { NodeReport, ReportedImage } from "#api/v1/node-report.ts";
import { isRemark } from "#api/v1/remarks.ts";
import { slimMetadata } from "#kube/slim-metadata.ts";
import type { Container, CoreCondition, Node, Pod, Taint } from "#kube/types.ts";
import { componentOf } from "./pods.ts";

/** Different images to remember for sharing; a bound for clusters in which everything differs. */
const maxShared = 65_536;

// What the controller keeps of each object in its caches. With thousands of nodes, a Node's list of
// images and everybody's managed fields would be most of its memory.

export function slimImage({ metadata, spec, status }: Image): Image {
  return { metadata: slimMetadata(metadata), spec, ...(status && { status }) };
}

export function slimPlan({ metadata, spec }: ImagePlan): ImagePlan {
  return { metadata: slimMetadata(metadata), spec };
}

export function slimMirror({ metadata, spec, status }: Mirror): Mirror {
  const run = metadata.annotations?.[runAnnotation];
  return {
    metadata: {
      ...slimMetadata(metadata),
      ...(run !== undefined && { annotations: { [runAnnotation]: run } }),
    },
    spec,
    ...(status && { status }),
  };
}

export function slimShard({ metadata, spec, status }: MirrorShard): MirrorShard {
  return { metadata: slimMetadata(metadata), spec, ...(status && { status }) };
}

/**
 * Makes a function that keeps of a NodeReport what is counted, labelled and told of failures. Images
 * without a failure are one object in all reports, and so are the texts of failures: thousands of
 * nodes report the same hundreds of images.
 */
export function reportSlimmer(): (report: NodeReport) => NodeReport {
  const images = new Map<string, ReportedImage>();
  const texts = new Map<string, string>();
  const text = (value: string): string => shared(texts, value, () => value);

  function slimReported(image: ReportedImage): ReportedImage {
    const { reference, state, reason = "Unknown", message = "", attempts = 0, since } = image;
    if (state === "available" || attempts === 0) {
      const remark = remarkOf(image);
      const key = [state, reference, remark.reason, remark.digest].join(" ");
      // Of what is there or merely waits, nobody asks since when.
      return shared(images, key, () => ({ reference, state, since: "", ...remark }));
    }
    return {
      reference: text(reference),
      state,
      attempts,
      since,
      reason: text(reason),
      message: text(message),
    };
  }

  return ({ metadata, status }) => ({
    metadata: slimMetadata(metadata),
    ...(status && { status: { ...status, images: once(status.images).map(slimReported) } }),
  });
}

/** The first of each reference: what says more of one image is no report of Coral's. */
function once(images: readonly ReportedImage[]): ReportedImage[] {
  const seen = new Set<string>();
  return images.filter(({ reference }) => seen.size !== seen.add(reference).size);
}

/** What else there is to tell of an image without a failure. */
function remarkOf({ reason, digest }: ReportedImage): Pick<ReportedImage, "reason" | "digest"> {
  return { ...(isRemark(reason) && { reason }), ...(digest !== undefined && { digest }) };
}

function shared<T>(pool: Map<string, T>, key: string, make: () => T): T {
  const known = pool.get(key);
  if (known !== undefined) return known;
  if (pool.size >= maxShared) pool.clear(); // Reports keep what they have; sharing begins anew.
  const value = make();
  pool.set(key, value);
  return value;
}

export function slimNode({ metadata, spec, status }: Node): Node {
  const { unschedulable, taints = [] } = spec ?? {};
  return {
    metadata: slimMetadata(metadata),
    spec: {
      ...(unschedulable !== undefined && { unschedulable }),
      ...(taints.length > 0 && { taints: taints.map(slimTaint) }),
    },
    status: { conditions: readyOf(status?.conditions) },
  };
}

function slimTaint({ key, value, effect }: Taint): Taint {
  return { key, ...(value !== undefined && { value }), effect };
}

export function slimPod(pod: Pod): Pod {
  const { metadata, spec, status } = pod;
  const { nodeName, initContainers = [], containers = [] } = spec ?? {};
  const podIP = componentOf(pod) === "agent" ? undefined : status?.podIP;
  return {
    metadata: slimMetadata(metadata),
    spec: {
      ...(nodeName !== undefined && { nodeName }),
      ...(initContainers.length > 0 && { initContainers: initContainers.map(slimContainer) }),
      containers: containers.map(slimContainer),
    },
    status: { conditions: readyOf(status?.conditions), ...(podIP !== undefined && { podIP }) },
  };
}

function slimContainer({ name, imagePullPolicy }: Container): Container {
  return { name, ...(imagePullPolicy !== undefined && { imagePullPolicy }) };
}

function readyOf(conditions: readonly CoreCondition[] = []): CoreCondition[] {
  const ready = conditions.filter(({ type }) => type === "Ready");
  return ready.map(({ type, status }) => ({ type, status }));
}
