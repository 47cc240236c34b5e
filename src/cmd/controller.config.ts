import { duration, integer, list, optional, text, type ConfigOf } from "#config/settings.ts";
import { isHost, registrySettings } from "./registries.ts";
import { roleSettings } from "./role.ts";

/** What an operator can set of `coral controller`. */
export const controllerSettings = {
  namespace: text({
    env: "POD_NAMESPACE",
    help: "Namespace in which Coral runs, from the downward API.",
  }),
  identity: text({
    env: "POD_NAME",
    help: "Name of this replica among the candidates for leading, from the downward API.",
  }),
  httpsPort: integer({
    env: "CORAL_HTTPS_PORT",
    min: 0,
    max: 65_535,
    default: 9443,
    help: "Port of the webhooks and of what agents ask.",
  }),
  tlsFolder: optional(
    text({
      env: "CORAL_TLS_DIR",
      help: "Folder with `tls.crt`, `tls.key` and `ca.crt` made by somebody else, such as cert-manager. If not set, Coral makes and rotates its own.",
    }),
  ),
  statusIntervalMs: duration({
    env: "CORAL_STATUS_INTERVAL",
    default: 2_000,
    help: "Least time between two writes of the status of one Image or Mirror. A change of Ready is written at once.",
  }),
  newNodeGraceMs: duration({
    env: "CORAL_NEW_NODE_GRACE",
    default: 10 * 60_000,
    help: "How long a new node may take to be filled before an Image that was Ready is Ready no more.",
  }),
  agentGraceMs: duration({
    env: "CORAL_AGENT_GRACE",
    default: 20_000,
    help: "How long an agent may be silent, as during an update, before its node is unknown.",
  }),
  resolveIntervalMs: duration({
    env: "CORAL_RESOLVE_INTERVAL",
    minMs: 5_000,
    default: 5 * 60_000,
    help: "How often registries are asked again: for tags that are followed (`imagePullPolicy: Always`) and for lists of tags (`listSelection: all`).",
  }),
  allowedRegistries: list({
    env: "CORAL_ALLOWED_REGISTRIES",
    items: "hosts, with a port if they have one",
    accepts: isHost,
    default: [],
    help: "Registries from which Images may want images, `docker.io` among them; empty means every one.",
  }),
  namespaceReferences: integer({
    env: "CORAL_NAMESPACE_REFERENCES",
    min: 0,
    default: 0,
    help: "How many different images the Images of one namespace may want together. 0 means no bound.",
  }),
  namespaceMegabytes: integer({
    env: "CORAL_NAMESPACE_MEGABYTES",
    min: 0,
    default: 0,
    help: "How many compressed megabytes (10^6 bytes) the Images of one namespace may want on a node, as far as sizes are known. 0 means no bound.",
  }),
  leaseDurationMs: duration({
    env: "CORAL_LEASE_DURATION",
    default: 15_000,
    help: "How long the other replicas wait for a sign of the leader before one takes over.",
  }),
  ...registrySettings,
  ...roleSettings,
};

export type ControllerConfig = ConfigOf<typeof controllerSettings>;
