import * as z from "zod/mini";

import type { KubeObject } from "#kube/types.ts";
import { mirroredRepositorySchema } from "./repository.ts";
import {
  boundedText,
  field,
  mapList,
  setList,
  withRules,
  type Frozen,
  type KindDefinition,
} from "./schema.ts";

const secretName = boundedText(253, { minLength: 1 });

/** Hours, minutes and seconds, as Go writes them: `1h30m`. */
export const durationPattern = /^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$/;

const duration = boundedText(32, { minLength: 2, pattern: durationPattern });

const tlsSchema = withRules(
  z.object({
    caSecret: z.exactOptional(
      field(
        z.object({ name: field(secretName, "Name of the Secret.") }),
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
      field(
        z.object({ name: field(secretName, "Name of the Secret.") }),
        "A Secret of this namespace with a login that may push there.",
      ),
    ),
    repositories: field(
      // Not required by the schema: that error would keep the better ones below from being told.
      z._default(mapList(mirroredRepositorySchema, 64, "name"), []),
      "What is copied, by repository. At least one.",
    ),
    imagePullSecrets: field(
      z._default(
        mapList(z.object({ name: field(secretName, "Name of the Secret.") }), 16, "name"),
        [],
      ),
      "Secrets of this namespace that hold logins for the registries that are copied from.",
    ),
    destination: field(
      z._default(boundedText(255, { minLength: 1 }), "{host}/{path}"),
      "The name of a copy below `registry`. `{host}` is the source's registry, `{path}` its repository, `{org}` and `{name}` all but the last part of that and the last. With `{host}/{path}` no two sources meet.",
    ),
    platforms: z.exactOptional(
      field(
        setList(boundedText(64, { pattern: /^[a-z0-9]+\/[a-z0-9_]+(\/[a-z0-9.]+)?$/ }), 16),
        "Copies these platforms alone, like `linux/arm64`. The index then has another digest than at the source, and its signatures do not hold. Unset means all.",
      ),
    ),
    referrers: field(
      z._default(z.boolean(), true),
      "Whether signatures, SBOMs and whatever else refers to an image are copied with it.",
    ),
    interval: z.exactOptional(
      field(duration, "How often to look for what has changed, like `30m`. One hour if not set."),
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
      z._default(duration, "24h"),
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

/** The Mirror kind. */
export const mirrorKind = {
  kind: "Mirror",
  plural: "mirrors",
  singular: "mirror",
  shortNames: ["mi"],
  namespaced: true,
  description: "Asks for repositories to be copied into a registry, and kept in step.",
  schema: z.object({ spec: field(specSchema, "What is copied, from where to where, and when.") }),
  hasStatus: true,
  columns: [
    { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp", description: "Age." },
  ],
} as const satisfies KindDefinition;

export type MirrorSpec = Frozen<z.infer<typeof specSchema>>;

/** These repositories in that registry. */
export interface Mirror extends KubeObject {
  readonly spec: MirrorSpec;
}
