import * as z from "zod/mini";

import type { KubeObject } from "#kube/types.ts";
import { concurrentNodesSchema } from "./concurrent-nodes.ts";
import { conditionsSchema } from "./conditions-schema.ts";
import { maxReferenceLength, maxReferences } from "./limits.ts";
import { repositorySchema } from "./repository.ts";
import {
  atomicList,
  boundedText,
  count,
  field,
  mapList,
  timestamp,
  withRules,
  type Frozen,
  type KindDefinition,
} from "./schema.ts";
import { requirementSchema } from "./requirement.ts";

const specSchema = withRules(
  z.object({
    selector: field(
      z._default(atomicList(requirementSchema, 32), []),
      "The nodes that get the images: those that fulfil every requirement. Empty means every node.",
    ),
    repositories: field(
      // Not required by the schema: that error would keep the better ones below from being told.
      z._default(mapList(repositorySchema, 64, "name"), []),
      "The images, by repository. At least one, and at most 500 images in all.",
    ),
    images: z.exactOptional(
      field(
        withRules(z.array(z.string()).check(z.maxLength(maxReferences)), {
          rule: "false",
          message:
            'write "repositories" instead: an image "debian:bookworm" is {name: debian, tags: [bookworm]}',
          reason: "FieldValueForbidden",
        }),
        "Always refused, so that nobody writes it and waits. The images belong in `repositories`.",
      ),
    ),
    imagePullSecrets: field(
      z._default(
        mapList(
          z.object({
            name: field(boundedText(253, { minLength: 1 }), "Name of the Secret."),
          }),
          16,
          "name",
        ),
        [],
      ),
      "Secrets of this namespace that hold logins for the registries.",
    ),
    imagePullPolicy: field(
      z._default(z.enum(["IfNotPresent", "Always"]), "IfNotPresent"),
      "`IfNotPresent` pulls what a node lacks. `Always` follows a tag that moves.",
    ),
    priority: field(
      z._default(z.int32().check(z.minimum(-1_000), z.maximum(1_000)), 0),
      "Images of higher priority are pulled first among those of this namespace.",
    ),
    maxConcurrentNodes: z.exactOptional(
      field(
        concurrentNodesSchema,
        "How many nodes pull one of these images at the same time, as a number or as a percentage of the selected nodes. Unset means no bound.",
      ),
    ),
    nodeLabels: field(
      z._default(z.enum(["PerImage", "None"]), "PerImage"),
      "Whether each node gets a label per image, `image.stvz.io/<md5 of the reference>`.",
    ),
  }),
  {
    rule: "size(self.repositories) > 0 || has(self.images)",
    message: "must name at least one repository",
    fieldPath: ".repositories",
    reason: "FieldValueRequired",
  },
  {
    rule: "self.repositories.map(r, r.listSelection == 'all' ? (has(r.filter) && has(r.filter.newest) ? r.filter.newest : 0) : (has(r.tags) ? size(r.tags) : 0) + (has(r.digests) ? size(r.digests) : 0)).sum() <= 500",
    message: "must name at most 500 images in all",
    fieldPath: ".repositories",
  },
);

const nodeCounts = {
  available: field(count(), "Nodes that have it."),
  pending: field(count(), "Nodes that do not have it yet."),
  error: field(count(), "Nodes that failed to pull it too often."),
  unknown: field(count(), "Nodes from which nothing is heard."),
};

const lastErrorSchema = z.object({
  node: field(boundedText(253), "The node that met it."),
  reason: field(boundedText(64), "The kind of failure, in one word."),
  message: field(boundedText(256), "What the registry or the runtime said."),
  time: field(timestamp(), "When it was met."),
});

const imageStatusSchema = z.object({
  reference: field(
    boundedText(maxReferenceLength),
    "The image's full name: `registry/path:tag[@digest]`.",
  ),
  digest: z.exactOptional(
    field(boundedText(135), "What the tag names, the same for the whole cluster."),
  ),
  label: field(boundedText(63), "The node label's name, after `image.stvz.io/`."),
  sizeBytes: z.exactOptional(
    field(
      z.int().check(z.minimum(0)),
      "Compressed size on the platform, of those that nodes have, on which it is largest.",
    ),
  ),
  ...nodeCounts,
  otherDigest: z.exactOptional(
    field(count(), "Nodes of those that have it whose digest is not the one given here."),
  ),
  lastError: z.exactOptional(field(lastErrorSchema, "The most recent failure on any node.")),
});

const statusSchema = z.object({
  observedGeneration: field(
    z.int().check(z.minimum(0)),
    "The `metadata.generation` that this status is about.",
  ),
  ready: z.exactOptional(
    field(boundedText(32), "Nodes that have every image, of all that are to: `3/5`."),
  ),
  totalNodes: field(count(), "Nodes that are to have the images."),
  totalImages: field(count(), "Images that each of them is to have."),
  condition: field(
    z.object(nodeCounts),
    "Nodes by their worst image (error, then unknown, pending, available). The four add up to `totalNodes`.",
  ),
  data: z.exactOptional(
    field(
      mapList(
        z.object({
          name: field(boundedText(maxReferenceLength), "The image's full name."),
          label: field(boundedText(63), "The node label's name, after `image.stvz.io/`."),
        }),
        maxReferences,
        "name",
      ),
      "Which label belongs to which image.",
    ),
  ),
  images: z.exactOptional(
    field(mapList(imageStatusSchema, maxReferences, "reference"), "Each image by itself."),
  ),
  pullSecretsRevision: z.exactOptional(
    field(
      boundedText(64),
      "Changes when a Secret of `imagePullSecrets` or the set-up of credential providers does. Made from their versions, not their contents.",
    ),
  ),
  conditions: z.exactOptional(conditionsSchema),
});

/** The Image kind. */
export const imageKind = {
  kind: "Image",
  plural: "images",
  singular: "image",
  shortNames: ["img"],
  namespaced: true,
  description: "Asks for images to be on nodes before anything needs them there.",
  schema: z.object({
    spec: field(specSchema, "Which images, and on which nodes."),
    status: z.exactOptional(field(statusSchema, "How far it is. Written by the controller alone.")),
  }),
  hasStatus: true,
  columns: [
    {
      name: "Ready",
      type: "string",
      jsonPath: ".status.ready",
      description: "Nodes that have every image, of all that are to.",
    },
    {
      name: "Images",
      type: "integer",
      jsonPath: ".status.totalImages",
      description: "Images that each of them is to have.",
    },
    {
      name: "Nodes",
      type: "integer",
      jsonPath: ".status.totalNodes",
      description: "Nodes that are to have the images.",
    },
    {
      name: "Errors",
      type: "integer",
      jsonPath: ".status.condition.error",
      description: "Nodes on which an image failed too often.",
    },
    { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp", description: "Age." },
    {
      name: "Message",
      type: "string",
      jsonPath: '.status.conditions[?(@.type=="Ready")].message',
      description: "What is missing.",
      priority: 1,
    },
  ],
} as const satisfies KindDefinition;

export type ImageSpec = Frozen<z.infer<typeof specSchema>>;
export type ImageStatus = Frozen<z.infer<typeof statusSchema>>;

/** These images on these nodes. */
export interface Image extends KubeObject {
  readonly spec: ImageSpec;
  readonly status?: ImageStatus;
}
