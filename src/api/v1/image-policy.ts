import * as z from "zod/mini";

import type { KubeObject } from "#kube/types.ts";
import { conditionsSchema } from "./conditions-schema.ts";
import { concurrentNodesSchema } from "./concurrent-nodes.ts";
import {
  atomicList,
  boundedText,
  field,
  setList,
  withRules,
  type Frozen,
  type KindDefinition,
} from "./schema.ts";

const labelKey = boundedText(317, { minLength: 1 });
const labelValue = boundedText(63);

/** A label selector as all of Kubernetes has it. */
const labelSelectorSchema = z.object({
  matchLabels: z.exactOptional(
    field(
      z.record(z.string(), labelValue).check(z.meta({ maxProperties: 32 })),
      "Labels that must have these values.",
    ),
  ),
  matchExpressions: z.exactOptional(
    field(
      atomicList(
        withRules(
          z.object({
            key: field(labelKey, "The label's name."),
            operator: field(
              z.enum(["In", "NotIn", "Exists", "DoesNotExist"]),
              "How the label is compared with `values`.",
            ),
            values: z.exactOptional(field(atomicList(labelValue, 64), "What it is compared with.")),
          }),
          {
            rule: "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            message: "In and NotIn take at least one value, Exists and DoesNotExist none",
            fieldPath: ".values",
          },
        ),
        32,
      ),
      "What else their labels must be.",
    ),
  ),
});

/** Globs over names of images: `*` stands for anything but `/`, `**` for anything. */
const imageGlobs = setList(
  boundedText(512, { minLength: 1, pattern: /^[a-z0-9*._:/@[\]-]+$/i }),
  64,
);

/** Globs over names of containers and volumes. */
const nameGlobs = setList(boundedText(63, { minLength: 1, pattern: /^[a-z0-9*-]+$/ }), 64);

const exemptionSchema = z.object({
  namespaces: z.exactOptional(
    field(setList(boundedText(63, { minLength: 1 }), 256), "Namespaces, by name."),
  ),
  users: z.exactOptional(
    field(
      setList(boundedText(253, { minLength: 1 }), 64),
      "Who creates the pod, by user name: `system:serviceaccount:ci:builder`.",
    ),
  ),
  groups: z.exactOptional(
    field(setList(boundedText(253, { minLength: 1 }), 64), "Groups of who creates the pod."),
  ),
});

const specSchema = z.object({
  priority: field(
    z._default(z.int32(), 0),
    "Of the policies that select an image of a pod, the one with the highest decides, alone. Of equal ones the first by name.",
  ),
  mode: field(
    z._default(z.enum(["Off", "OptIn", "Force"]), "OptIn"),
    "`Off` leaves these images alone, whatever annotations say; `OptIn` is for pods with the annotation `image.stvz.io/inject`, whose words go before what is set here; `Force` is for all pods.",
  ),
  namespaceSelector: z.exactOptional(
    field(labelSelectorSchema, "Which namespaces. Unset means all but those of the system."),
  ),
  images: z.exactOptional(
    field(
      imageGlobs,
      "Which images, by globs over their full names: `docker.io/library/*`, `registry.example/**`. Unset means all.",
    ),
  ),
  pullPolicy: field(
    z._default(z.enum(["Unchanged", "IfNotPresent", "Never"]), "Unchanged"),
    "What becomes of the `imagePullPolicy` of containers whose image Coral keeps on nodes.",
  ),
  nodes: field(
    z._default(z.enum(["None", "Preferred", "Required"]), "None"),
    "Whether pods go to nodes that hold their images. `Required` becomes `Preferred` while too few do.",
  ),
  minNodes: field(
    z._default(concurrentNodesSchema, 2),
    "How many ready nodes must hold all of a pod's images for `Required`: a number, or a percentage of the nodes that fit.",
  ),
  admit: field(
    z._default(z.enum(["Any", "OnlyAvailable"]), "Any"),
    "`OnlyAvailable` refuses pods with an image that no node holds.",
  ),
  enforcement: field(
    z._default(z.enum(["Enforce", "Warn", "Audit"]), "Enforce"),
    "`Warn` changes and refuses nothing, and tells who creates the pod what it would do; `Audit` tells the API server's audit log.",
  ),
  includeContainers: z.exactOptional(
    field(
      nameGlobs,
      "Which containers and image volumes, by globs over their names. Unset means all.",
    ),
  ),
  excludeContainers: z.exactOptional(
    field(nameGlobs, "Which not. `includeContainers` goes before it."),
  ),
  exempt: z.exactOptional(field(exemptionSchema, "Whom this policy leaves alone.")),
});

const statusSchema = z.object({
  observedGeneration: z.exactOptional(
    field(z.int().check(z.minimum(0)), "The `metadata.generation` that this is about."),
  ),
  conditions: z.exactOptional(conditionsSchema),
});

/** The ImagePolicy kind. */
export const imagePolicyKind = {
  kind: "ImagePolicy",
  plural: "imagepolicies",
  singular: "imagepolicy",
  shortNames: ["ipol"],
  namespaced: false,
  description: "Says what admission does with the images of pods.",
  schema: z.object({
    spec: field(specSchema, "Which pods and images, and what is done with them."),
    status: z.exactOptional(field(statusSchema, "Whether it works. Written by the controller.")),
  }),
  hasStatus: true,
  columns: [
    { name: "Mode", type: "string", jsonPath: ".spec.mode", description: "Whom it is for." },
    {
      name: "Priority",
      type: "integer",
      jsonPath: ".spec.priority",
      description: "The highest decides.",
    },
    {
      name: "Pull",
      type: "string",
      jsonPath: ".spec.pullPolicy",
      description: "What becomes of pull policies.",
    },
    {
      name: "Nodes",
      type: "string",
      jsonPath: ".spec.nodes",
      description: "Whether pods go to nodes that hold their images.",
    },
    { name: "Admit", type: "string", jsonPath: ".spec.admit", description: "What is let in." },
    {
      name: "Enforcement",
      type: "string",
      jsonPath: ".spec.enforcement",
      description: "Whether it acts, or tells.",
    },
    { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp", description: "Age." },
  ],
} as const satisfies KindDefinition;

export type ImagePolicySpec = Frozen<z.infer<typeof specSchema>>;
export type ImagePolicyStatus = Frozen<z.infer<typeof statusSchema>>;

/** What admission does with the images of pods. It has no namespace. */
export interface ImagePolicy extends KubeObject {
  readonly spec: ImagePolicySpec;
  readonly status?: ImagePolicyStatus;
}
