import * as z from "zod/mini";

import type { KubeObject } from "#kube/types.ts";
import { conditionsSchema } from "./conditions-schema.ts";
import { maxReferenceLength } from "./limits.ts";
import { mirroredRepositorySchema } from "./repository.ts";
import {
  boundedText,
  count,
  field,
  mapList,
  setList,
  timestamp,
  withRules,
  type Frozen,
  type KindDefinition,
} from "./schema.ts";

/** Names a Secret of the same namespace. */
export const secretReference = z.object({
  name: field(boundedText(253, { minLength: 1 }), "Name of the Secret."),
});

/** Hours, minutes and seconds, as Go writes them: `1h30m`. */
export const durationPattern = /^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$/;

export const durationSchema = boundedText(32, { minLength: 2, pattern: durationPattern });

/** How to speak to the registry that copies go to. */
export const tlsSchema = withRules(
  z.object({
    caSecret: z.exactOptional(
      field(
        secretReference,
        "A Secret of this namespace whose `ca.crt` is trusted besides what the system trusts.",
      ),
    ),
    plainHTTP: field(z._default(z.boolean(), false), "Whether the registry speaks plain HTTP."),
    insecureSkipVerify: field(
      z._default(z.boolean(), false),
      "Whether to take any certificate. Whoever is on the way then reads the login and changes images.",
    ),
  }),
  {
    rule: "!(self.plainHTTP && (self.insecureSkipVerify || has(self.caSecret)))",
    message: "plainHTTP goes without caSecret and insecureSkipVerify",
    fieldPath: ".plainHTTP",
  },
);

/** Platforms, like `linux/arm64` or `linux/arm/v7`. */
export const platformsSchema = setList(
  boundedText(64, { pattern: /^[a-z0-9]+\/[a-z0-9_]+(\/[a-z0-9.]+)?$/ }),
  16,
);

const specSchema = withRules(
  z.object({
    registry: field(
      boundedText(255, {
        minLength: 1,
        pattern: /^[a-zA-Z0-9.-]+(:[0-9]{1,5})?(\/[a-z0-9._-]+)*$/,
      }),
      "Where the copies go: `host[:port]`, and perhaps a prefix, like `registry.example:5000/mirror`.",
    ),
    tls: z.exactOptional(field(tlsSchema, "How to speak to that registry. Unset means HTTPS.")),
    pushSecret: z.exactOptional(
      field(secretReference, "A Secret of this namespace with a login that may push there."),
    ),
    repositories: field(
      // Not required by the schema: that error would keep the better ones below from being told.
      z._default(mapList(mirroredRepositorySchema, 64, "name"), []),
      "What is copied, by repository. At least one.",
    ),
    imagePullSecrets: field(
      z._default(mapList(secretReference, 16, "name"), []),
      "Secrets of this namespace that hold logins for the registries that are copied from.",
    ),
    destination: field(
      z._default(boundedText(255, { minLength: 1 }), "{host}/{path}"),
      "The name of a copy below `registry`. `{host}` is the source's registry, `{path}` its repository, `{org}` and `{name}` all but the last part of that and the last. With `{host}/{path}` no two sources meet.",
    ),
    platforms: z.exactOptional(
      field(
        platformsSchema,
        "Copies these platforms alone, like `linux/arm64`. The index then has another digest than at the source, and its signatures do not hold. Unset means all.",
      ),
    ),
    referrers: field(
      z._default(z.boolean(), true),
      "Whether signatures, SBOMs and whatever else refers to an image are copied with it.",
    ),
    interval: z.exactOptional(
      field(
        durationSchema,
        "How often to look for what has changed, like `30m`. One hour if not set.",
      ),
    ),
    schedule: z.exactOptional(
      field(
        boundedText(128, { minLength: 1 }),
        "When to look instead, as cron writes it: `0 3 * * *`. In UTC unless `timeZone` says else.",
      ),
    ),
    timeZone: z.exactOptional(
      field(
        boundedText(64, { minLength: 1 }),
        "The time zone of `schedule`, like `Europe/Berlin`.",
      ),
    ),
    removalPolicy: field(
      z._default(z.enum(["Retain", "Delete"]), "Retain"),
      "What happens to copies that are no longer asked for.",
    ),
    gracePeriod: field(
      z._default(durationSchema, "24h"),
      "How long a copy stays, with `Delete`, after nobody asks for it any more.",
    ),
    suspend: field(z._default(z.boolean(), false), "Copies and removes nothing while it is set."),
  }),
  {
    rule: "size(self.repositories) > 0",
    message: "must name at least one repository",
    fieldPath: ".repositories",
    reason: "FieldValueRequired",
  },
  {
    rule: "!has(self.interval) || !has(self.schedule)",
    message: "interval and schedule exclude each other",
    fieldPath: ".schedule",
  },
  {
    rule: "!has(self.timeZone) || has(self.schedule)",
    message: "timeZone needs schedule",
    fieldPath: ".timeZone",
  },
);

/** How many failures and removals a status tells of by name. It counts them all. */
export const maxSamples = 10;

/** Why something was not copied, as statuses tell it. */
export const copyFailureFields = {
  reason: field(boundedText(64), "The kind of failure, in one word."),
  message: field(boundedText(256), "What the registry said."),
};

const failureSchema = z.object({
  reference: field(
    boundedText(maxReferenceLength),
    "The image at its source; the repository, if it is not known which images there are.",
  ),
  ...copyFailureFields,
});

const removalSchema = z.object({
  reference: field(boundedText(maxReferenceLength), "The copy."),
  dueTime: field(timestamp(), "When its grace is over."),
  keptBy: z.exactOptional(
    field(boundedText(316), "Who refers to it, so that it stays: the kind, namespace and name."),
  ),
});

const statusSchema = z.object({
  observedGeneration: z.exactOptional(
    field(z.int().check(z.minimum(0)), "The `metadata.generation` that this is about."),
  ),
  repositories: field(count(), "Repositories that are copied from."),
  tags: field(count(), "Tags and digests that are to be copied, as far as they are known."),
  synced: field(count(), "Those that were right when they were last looked at."),
  pending: field(count(), "Those that are still to be looked at or copied."),
  failed: field(
    count(),
    "Those that could not be copied, and repositories that could not be read.",
  ),
  throttled: field(count(), "Those that wait because a registry wants to be left alone."),
  progress: field(boundedText(32), "`synced` and `tags`, to be read: `12/14`."),
  bytesCopied: field(
    z.int().check(z.minimum(0)),
    "Bytes of blobs that were sent, since the Mirror was made.",
  ),
  lastSyncTime: z.exactOptional(
    field(timestamp(), "When all repositories had last been looked at."),
  ),
  nextSyncTime: z.exactOptional(field(timestamp(), "When the first of them is looked at again.")),
  failures: z.exactOptional(
    field(mapList(failureSchema, maxSamples, "reference"), "Some of those that failed."),
  ),
  removable: z.exactOptional(
    field(count(), "Copies made by Coral that are no longer asked for. `Retain` keeps them."),
  ),
  removed: z.exactOptional(field(count(), "Copies that were removed, since the Mirror was made.")),
  removals: z.exactOptional(
    field(
      mapList(removalSchema, maxSamples, "reference"),
      "Some of the copies that `Delete` removes; with `Retain`, that it would.",
    ),
  ),
  conditions: z.exactOptional(conditionsSchema),
});

/** The Mirror kind. */
export const mirrorKind = {
  kind: "Mirror",
  plural: "mirrors",
  singular: "mirror",
  shortNames: ["mi"],
  namespaced: true,
  description: "Asks for repositories to be copied into a registry, and kept in step.",
  schema: z.object({
    spec: field(specSchema, "What is copied, from where to where, and when."),
    status: z.exactOptional(field(statusSchema, "How far it is. Written by the controller alone.")),
  }),
  hasStatus: true,
  columns: [
    {
      name: "Synced",
      type: "string",
      jsonPath: ".status.progress",
      description: "Tags that are right, of all that are to be.",
    },
    {
      name: "Failed",
      type: "integer",
      jsonPath: ".status.failed",
      description: "Tags that could not be copied.",
    },
    {
      name: "Last",
      type: "date",
      jsonPath: ".status.lastSyncTime",
      description: "Since when everything has been looked at.",
    },
    {
      name: "Next",
      type: "string",
      jsonPath: ".status.nextSyncTime",
      description: "When it is looked at again.",
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

export type MirrorSpec = Frozen<z.infer<typeof specSchema>>;
export type MirrorStatus = Frozen<z.infer<typeof statusSchema>>;

/** These repositories in that registry. */
export interface Mirror extends KubeObject {
  readonly spec: MirrorSpec;
  readonly status?: MirrorStatus;
}

/** The annotation that asks for a run now: whenever its value changes, every repository is looked at. */
export const runAnnotation = "mirror.stvz.io/run";
