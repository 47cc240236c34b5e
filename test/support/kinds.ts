import { hash } from "node:crypto";

import type { Image, ImageSpec } from "#api/v1/image.ts";
import type { NodeReport, ReportedImage } from "#api/v1/node-report.ts";
import type { ObjectMeta } from "#kube/types.ts";

/**
 * Makes an Image as the API server would return it: with defaults, and wanting `debian:bookworm`
 * unless told otherwise.
 */
export function anImage(spec: Partial<ImageSpec> = {}, metadata: Partial<ObjectMeta> = {}): Image {
  return {
    apiVersion: "stvz.io/v1",
    kind: "Image",
    metadata: metaOf({ name: "tools", namespace: "team", generation: 1, ...metadata }),
    spec: {
      selector: [],
      repositories: [{ name: "debian", tags: ["bookworm"], listSelection: "listed" }],
      imagePullSecrets: [],
      imagePullPolicy: "IfNotPresent",
      priority: 0,
      nodeLabels: "PerImage",
      ...spec,
    },
  };
}

/** Makes the report of a node's agent: a state, or more, for each reference. */
export function aNodeReport(
  node: string,
  images: Record<string, ReportedImage["state"] | Partial<ReportedImage>> = {},
): NodeReport {
  return {
    apiVersion: "stvz.io/v1",
    kind: "NodeReport",
    metadata: metaOf({ name: node }),
    status: {
      images: Object.entries(images).map(([reference, image]) => ({
        reference,
        state: "available",
        since: "2026-01-01T00:00:00Z",
        ...(typeof image === "string" ? { state: image } : image),
      })),
      runtime: { name: "containerd", version: "2.4.2" },
      agentVersion: "0.1.0",
      observedPlan: "1",
    },
  };
}

function metaOf(metadata: ObjectMeta): ObjectMeta {
  const { name, namespace = "" } = metadata;
  return {
    uid: hash("md5", `${namespace}/${name}`),
    resourceVersion: "1",
    creationTimestamp: "2026-01-01T00:00:00Z",
    ...metadata,
  };
}
