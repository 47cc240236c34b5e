import * as z from "zod/mini";

import type { KubeObject } from "#kube/types.ts";
import { maxReferenceLength } from "./limits.ts";
import {
  atomicList,
  boundedText,
  count,
  field,
  timestamp,
  type Frozen,
  type KindDefinition,
} from "./schema.ts";

const imageStateSchema = z.enum(["pending", "available", "error"]);

const reportedImageSchema = z.object({
  reference: field(
    boundedText(maxReferenceLength, { minLength: 1 }),
    "The image's full name: `registry/path:tag[@digest]`.",
  ),
  state: field(
    imageStateSchema,
    "`pending` until it is there, `error` after too many failures, which are still retried.",
  ),
  digest: z.exactOptional(field(boundedText(135), "What the runtime has under this name.")),
  sizeBytes: z.exactOptional(
    field(z.int().check(z.minimum(0)), "Its size on the node, as the runtime counts it."),
  ),
  reason: z.exactOptional(field(boundedText(64), "The kind of the last failure, in one word.")),
  message: z.exactOptional(
    field(boundedText(256), "What the registry or the runtime said of the last failure."),
  ),
  attempts: z.exactOptional(field(count(), "Failed pulls since the last success.")),
  since: field(timestamp(), "When the state was entered."),
});

const statusSchema = z.object({
  images: field(
    atomicList(reportedImageSchema, 1_000),
    "Each image that an Image wants on this node, once.",
  ),
  runtime: field(
    z.object({
      name: field(boundedText(64), "Like `containerd`."),
      version: field(boundedText(128), "Like `2.4.2`."),
    }),
    "The container runtime of the node.",
  ),
  agentVersion: field(boundedText(128), "The version of the agent that wrote this."),
  observedPlan: field(
    boundedText(128),
    "Stands for the ImagePlans and the node labels that this report is about.",
  ),
});

/** The NodeReport kind. */
export const nodeReportKind = {
  kind: "NodeReport",
  plural: "nodereports",
  singular: "nodereport",
  shortNames: ["nr"],
  namespaced: false,
  description:
    "What one agent has on its node. Named after the node, owned by it, and written by that agent alone.",
  schema: z.object({
    status: z.exactOptional(field(statusSchema, "Written by the agent of the node.")),
  }),
  hasStatus: true,
  columns: [
    {
      name: "Runtime",
      type: "string",
      jsonPath: ".status.runtime.name",
      description: "The container runtime of the node.",
    },
    {
      name: "Runtime version",
      type: "string",
      jsonPath: ".status.runtime.version",
      description: "Its version.",
      priority: 1,
    },
    {
      name: "Agent",
      type: "string",
      jsonPath: ".status.agentVersion",
      description: "The version of the agent.",
    },
    { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp", description: "Age." },
  ],
} as const satisfies KindDefinition;

/** How an image is doing on a node, in reports and in node labels. */
export type ImageState = z.infer<typeof imageStateSchema>;

export type NodeReportStatus = Frozen<z.infer<typeof statusSchema>>;

/** How one image is doing on one node. */
export type ReportedImage = Frozen<z.infer<typeof reportedImageSchema>>;

/** What one agent has on its node. */
export interface NodeReport extends KubeObject {
  readonly status?: NodeReportStatus;
}
