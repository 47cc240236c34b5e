import * as z from "zod/mini";

import type { KubeObject } from "#kube/types.ts";
import { maxReferenceLength, maxReferences } from "./limits.ts";
import {
  atomicList,
  boundedText,
  field,
  mapList,
  type Frozen,
  type KindDefinition,
} from "./schema.ts";
import { concurrentNodesSchema } from "./concurrent-nodes.ts";
import { requirementSchema } from "./requirement.ts";

const plannedImageSchema = z.object({
  reference: field(
    boundedText(maxReferenceLength, { minLength: 1 }),
    "The image's full name: `registry/path:tag[@digest]`.",
  ),
  digest: z.exactOptional(
    field(boundedText(135), "What the tag names at its registry, the same for every platform."),
  ),
  sizes: z.exactOptional(
    field(
      mapList(
        z.object({
          platform: field(boundedText(64, { minLength: 1 }), "Like `linux/arm64`."),
          sizeBytes: field(z.int().check(z.minimum(0)), "Compressed size: what is downloaded."),
        }),
        8,
        "platform",
      ),
      "How large it is on each platform that the cluster's nodes have.",
    ),
  ),
});

const specSchema = z.object({
  selector: field(atomicList(requirementSchema, 32), "As in the Image."),
  priority: field(z.int32(), "As in the Image."),
  imageGeneration: z.exactOptional(
    field(
      z.int().check(z.minimum(0)),
      "The `metadata.generation` of the Image that this was made from. What failed before a new one is tried at once.",
    ),
  ),
  imagePullPolicy: z.exactOptional(
    field(
      z.enum(["IfNotPresent", "Always"]),
      "As in the Image. With `Always`, a node that holds another digest than the one given here pulls again.",
    ),
  ),
  pullSecretsRevision: z.exactOptional(
    field(
      boundedText(64),
      "There if the Image may use logins, of pull secrets or of the operator's credential providers: agents then ask the controller for them. Changes when a secret or the set-up of the providers does.",
    ),
  ),
  maxConcurrentNodes: z.exactOptional(
    field(
      concurrentNodesSchema,
      "As in the Image. If there, an agent asks the controller for a slot before it pulls.",
    ),
  ),
  images: field(
    mapList(plannedImageSchema, maxReferences, "reference"),
    "What each selected node is to have.",
  ),
});

/** The ImagePlan kind. */
export const imagePlanKind = {
  kind: "ImagePlan",
  plural: "imageplans",
  singular: "imageplan",
  shortNames: ["ipl"],
  namespaced: true,
  description:
    "What an Image amounts to, for the agents to watch: it changes seldom, while an Image's status changes often. Internal: written by the controller, with the name of its Image.",
  schema: z.object({ spec: field(specSchema, "Written by the controller alone.") }),
  hasStatus: false,
  columns: [
    {
      name: "Priority",
      type: "integer",
      jsonPath: ".spec.priority",
      description: "Priority among the Images of the namespace.",
    },
    { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp", description: "Age." },
  ],
} as const satisfies KindDefinition;

export type ImagePlanSpec = Frozen<z.infer<typeof specSchema>>;

/** What an Image amounts to. It has the Image's name and namespace, and is owned by it. */
export interface ImagePlan extends KubeObject {
  readonly spec: ImagePlanSpec;
}
