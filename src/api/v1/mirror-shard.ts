import * as z from "zod/mini";

import { digestPattern, tagPattern } from "#oci/reference.ts";
import type { KubeObject } from "#kube/types.ts";
import {
  copyFailureFields,
  durationSchema,
  maxSamples,
  platformsSchema,
  secretReference,
  tlsSchema,
} from "./mirror.ts";
import { repositorySelection } from "./repository.ts";
import {
  boundedText,
  count,
  field,
  mapList,
  timestamp,
  type Frozen,
  type KindDefinition,
} from "./schema.ts";

/** How many copies are removed in one go. */
export const maxRemovals = 100;

const tagName = boundedText(128, { minLength: 1, pattern: tagPattern });
const digest = boundedText(135, { pattern: digestPattern });
const repositoryName = boundedText(255, { minLength: 1 });

const approvedRemovalSchema = z.object({
  tag: field(tagName, "The tag."),
  digest: field(digest, "What it names. If it names something else by now, it stays."),
});

const specSchema = z.object({
  mirror: field(boundedText(253, { minLength: 1 }), "Name of the Mirror."),
  cluster: field(
    boundedText(64, { minLength: 1 }),
    "The uid of the namespace `kube-system`: tells this cluster's copies from another's.",
  ),
  source: field(repositoryName, "The repository that is copied from: `docker.io/library/debian`."),
  target: field(repositoryName, "The repository that is copied to: `registry.example/x/debian`."),
  ...repositorySelection,
  platforms: z.exactOptional(field(platformsSchema, "As in the Mirror.")),
  referrers: field(z.boolean(), "As in the Mirror."),
  tls: z.exactOptional(field(tlsSchema, "As in the Mirror.")),
  pushSecret: z.exactOptional(field(secretReference, "As in the Mirror.")),
  imagePullSecrets: field(mapList(secretReference, 16, "name"), "As in the Mirror."),
  interval: z.exactOptional(field(durationSchema, "As in the Mirror.")),
  schedule: z.exactOptional(field(boundedText(128, { minLength: 1 }), "As in the Mirror.")),
  timeZone: z.exactOptional(field(boundedText(64, { minLength: 1 }), "As in the Mirror.")),
  gracePeriod: field(durationSchema, "As in the Mirror."),
  suspend: field(z.boolean(), "As in the Mirror."),
  retired: z.exactOptional(
    field(
      z.boolean(),
      "Whether the Mirror has no such repository any more: nothing of it is copied, and with `Delete` what was is removed.",
    ),
  ),
  run: z.exactOptional(
    field(boundedText(256), "Of the annotation that asks for a run now. Each new value is one."),
  ),
  removals: z.exactOptional(
    field(
      mapList(approvedRemovalSchema, maxRemovals, "tag"),
      "Copies that may go: nothing in the cluster refers to them.",
    ),
  ),
});

const statusSchema = z.object({
  observedGeneration: z.exactOptional(
    field(z.int().check(z.minimum(0)), "The `metadata.generation` of the last run."),
  ),
  observedRun: z.exactOptional(field(boundedText(256), "The last `run` that was answered.")),
  worker: z.exactOptional(
    field(boundedText(253), "Who copies at the moment. Nobody else does while that one lives."),
  ),
  tags: field(count(), "As in the Mirror."),
  synced: field(count(), "As in the Mirror."),
  pending: field(count(), "As in the Mirror."),
  failed: field(count(), "As in the Mirror."),
  throttled: field(count(), "As in the Mirror."),
  bytesCopied: field(z.int().check(z.minimum(0)), "As in the Mirror."),
  digestsDiffer: z.exactOptional(
    field(z.boolean(), "Whether copies have other digests than their sources, by `platforms`."),
  ),
  lastSyncTime: z.exactOptional(field(timestamp(), "When the last run ended.")),
  lastReferrersTime: z.exactOptional(
    field(timestamp(), "When referrers of unchanged images were last looked for."),
  ),
  nextSyncTime: z.exactOptional(field(timestamp(), "When the next one begins.")),
  throttledUntil: z.exactOptional(
    field(timestamp(), "Until when a registry wants to be left alone."),
  ),
  failure: z.exactOptional(
    field(
      z.object(copyFailureFields),
      "Why it is not known which tags there are, or nothing could be begun.",
    ),
  ),
  failures: z.exactOptional(
    field(
      mapList(
        z.object({ tag: field(boundedText(135), "Tag or digest."), ...copyFailureFields }),
        maxSamples,
        "tag",
      ),
      "Some of the tags that failed.",
    ),
  ),
  secretProblems: z.exactOptional(
    field(
      mapList(
        z.object({ name: field(boundedText(253), "Name of the Secret."), ...copyFailureFields }),
        18,
        "name",
      ),
      "What is wrong with the Secrets. Nothing of what they hold is in it.",
    ),
  ),
  selection: z.exactOptional(
    field(boundedText(64), "A hash of what was selected: whether copies may be left over."),
  ),
  removable: z.exactOptional(field(count(), "As in the Mirror.")),
  removed: z.exactOptional(field(count(), "As in the Mirror.")),
  removals: z.exactOptional(
    field(
      mapList(
        z.object({
          tag: field(tagName, "The tag."),
          digest: field(digest, "What it names."),
          dueTime: field(timestamp(), "When its grace is over."),
        }),
        maxRemovals,
        "tag",
      ),
      "Copies that are no longer asked for, those that are due first before the others.",
    ),
  ),
  deleteUnsupported: z.exactOptional(
    field(z.boolean(), "Whether the registry refuses to remove anything."),
  ),
});

/** The MirrorShard kind. */
export const mirrorShardKind = {
  kind: "MirrorShard",
  plural: "mirrorshards",
  singular: "mirrorshard",
  shortNames: ["mis"],
  namespaced: true,
  description:
    "One repository of a Mirror: what a worker is to do, and how far it is. Internal: the controller writes the spec, a worker the status.",
  schema: z.object({
    spec: field(specSchema, "What is to be done. Written by the controller alone."),
    status: z.exactOptional(field(statusSchema, "How far it is. Written by a worker.")),
  }),
  hasStatus: true,
  columns: [
    {
      name: "Mirror",
      type: "string",
      jsonPath: ".spec.mirror",
      description: "The Mirror that it is of.",
    },
    {
      name: "Source",
      type: "string",
      jsonPath: ".spec.source",
      description: "The repository that is copied from.",
    },
    {
      name: "Synced",
      type: "integer",
      jsonPath: ".status.synced",
      description: "Tags that are right.",
    },
    {
      name: "Tags",
      type: "integer",
      jsonPath: ".status.tags",
      description: "Tags that are to be.",
    },
    {
      name: "Worker",
      type: "string",
      jsonPath: ".status.worker",
      description: "Who copies at the moment.",
    },
    { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp", description: "Age." },
  ],
} as const satisfies KindDefinition;

export type MirrorShardSpec = Frozen<z.infer<typeof specSchema>>;
export type MirrorShardStatus = Frozen<z.infer<typeof statusSchema>>;

/** One repository of a Mirror. */
export interface MirrorShard extends KubeObject {
  readonly spec: MirrorShardSpec;
  readonly status?: MirrorShardStatus;
}
