import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { ImagePolicy, ImagePolicySpec } from "#api/v1/image-policy.ts";
import { imageLabel } from "#api/v1/labels.ts";
import type { Node, ObjectMeta, Pod, Taint } from "#kube/types.ts";

/** Makes an ImagePolicy as the API server would return it: with defaults, which change nothing. */
export function aPolicy(
  name: string,
  spec: Partial<ImagePolicySpec> = {},
  metadata: Partial<ObjectMeta> = {},
): ImagePolicy {
  return {
    apiVersion: "stvz.io/v1",
    kind: "ImagePolicy",
    metadata: { name, generation: 1, ...metadata },
    spec: {
      priority: 0,
      mode: "OptIn",
      pullPolicy: "Unchanged",
      nodes: "None",
      minNodes: 2,
      admit: "Any",
      enforcement: "Enforce",
      ...spec,
    },
  };
}

/** Makes the plan of an Image that asks for images. */
export function aPlan(
  references: readonly string[],
  {
    name = "tools",
    namespace = "team",
    usesLogins = false,
  }: { name?: string; namespace?: string; usesLogins?: boolean } = {},
): ImagePlan {
  return {
    metadata: { name, namespace },
    spec: {
      selector: [],
      priority: 0,
      ...(usesLogins && { pullSecretsRevision: "1" }),
      images: references.map((reference) => ({ reference })),
    },
  };
}

/** Makes a Node that is Ready unless told otherwise, with the state of each image. */
export function aNode(
  name: string,
  images: Readonly<Record<string, string>> = {},
  {
    labels = {},
    taints = [],
    isReady = true,
    isCordoned = false,
    isGoing = false,
  }: {
    labels?: Readonly<Record<string, string>>;
    taints?: readonly Taint[];
    isReady?: boolean;
    isCordoned?: boolean;
    isGoing?: boolean;
  } = {},
): Node {
  const states = Object.entries(images).map(([image, state]) => [imageLabel(image), state]);
  return {
    metadata: {
      name,
      labels: { ...labels, ...Object.fromEntries(states) },
      ...(isGoing && { deletionTimestamp: "2026-01-01T00:00:00Z" }),
    },
    spec: { ...(isCordoned && { unschedulable: true }), taints },
    status: { conditions: [{ type: "Ready", status: isReady ? "True" : "False" }] },
  };
}

/** Makes a pod of Coral's with the pull policy of each of its containers. */
export function ownPod(name: string, policies: readonly (string | undefined)[]): Pod {
  const containers = policies.map((imagePullPolicy, index) => ({
    name: `c${index}`,
    ...(imagePullPolicy !== undefined && { imagePullPolicy }),
  }));
  const labels = { "app.kubernetes.io/name": "coral" };
  return { metadata: { name, namespace: "coral-system", labels }, spec: { containers } };
}
