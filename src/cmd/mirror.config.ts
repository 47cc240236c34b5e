import { duration, integer, list, optional, text, type ConfigOf } from "#config/settings.ts";
import { isHost, registrySettings } from "./registries.ts";
import { roleSettings } from "./role.ts";

/** What an operator can set of `coral mirror`, the workers. */
export const mirrorSettings = {
  namespace: text({
    env: "POD_NAMESPACE",
    help: "Namespace in which Coral runs, from the downward API.",
  }),
  identity: text({
    env: "POD_NAME",
    help: "Name of this worker among the others, from the downward API.",
  }),
  podUid: optional(
    text({
      env: "POD_UID",
      help: "This pod's uid, from the downward API. If set, the worker's Lease goes with its pod.",
    }),
  ),
  leaseDurationMs: duration({
    env: "CORAL_LEASE_DURATION",
    minMs: 3_000,
    default: 15_000,
    help: "How long the others wait for a sign of a worker before they take over its work.",
  }),
  blobsPerHost: integer({
    env: "CORAL_MIRROR_BLOBS_PER_HOST",
    min: 1,
    max: 64,
    default: 8,
    help: "Blobs that one worker reads from one registry at the same time.",
  }),
  tagsAtOnce: integer({
    env: "CORAL_MIRROR_TAGS_AT_ONCE",
    min: 4,
    max: 1_024,
    default: 64,
    help: "Tags that one worker copies at the same time. No registry that is copied from has more than a quarter of them.",
  }),
  runsAtOnce: integer({
    env: "CORAL_MIRROR_RUNS_AT_ONCE",
    min: 4,
    max: 1_024,
    default: 64,
    help: "Repositories that one worker looks at and copies at the same time, without those whose registry wants to be left alone. A namespace has no more than half of what others leave, and a Mirror half of that.",
  }),
  providersPushTo: list({
    env: "CORAL_MIRROR_PROVIDERS_PUSH_TO",
    items: "hosts, with a port if they have one",
    accepts: isHost,
    default: [],
    help: "Registries (host[:port]) to which Mirrors of every namespace may push with the logins of the credential providers. All others are pushed to with a Mirror's own `pushSecret` alone.",
  }),
  ...registrySettings,
  ...roleSettings,
};

export type MirrorConfig = ConfigOf<typeof mirrorSettings>;
