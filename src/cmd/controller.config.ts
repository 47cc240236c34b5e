import { isIPv4, isIPv6 } from "node:net";

import {
  ConfigError,
  duration,
  integer,
  list,
  optional,
  text,
  type ConfigOf,
} from "#config/settings.ts";
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
    help: "Least time between two writes of one Image's status. A change of Ready is written at once.",
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
  plainHttpRegistries: list({
    env: "CORAL_PLAIN_HTTP_REGISTRIES",
    items: "hosts, with a port if they have one",
    accepts: isHost,
    default: [],
    help: "Registries (host[:port]) that speak HTTP without TLS. The controller alone asks them; what nodes do is up to their runtime.",
  }),
  deniedNetworks: list({
    env: "CORAL_DENIED_NETWORKS",
    items: "networks like 10.0.0.0/8",
    accepts: isNetwork,
    default: [],
    help: "Networks (CIDR) in which no registry is asked, besides loopback, link-local and metadata addresses, which never are.",
  }),
  allowedRegistries: list({
    env: "CORAL_ALLOWED_REGISTRIES",
    items: "hosts, with a port if they have one",
    accepts: isHost,
    default: [],
    help: "Registries from which Images may want images, `docker.io` among them; empty means every one.",
  }),
  credentialProviderConfig: optional(
    text({
      env: "CORAL_CREDENTIAL_PROVIDER_CONFIG",
      help: "File with the kubelet's `CredentialProviderConfig`: programs that give logins to registries. Read once, at the start.",
    }),
  ),
  credentialProviderFolder: optional(
    text({
      env: "CORAL_CREDENTIAL_PROVIDER_BIN_DIR",
      help: "Folder with these programs. Both are set, or neither.",
    }),
  ),
  credentialProviderTimeoutMs: duration({
    env: "CORAL_CREDENTIAL_PROVIDER_TIMEOUT",
    minMs: 1_000,
    default: 60_000,
    help: "Longest run of such a program.",
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
  ...roleSettings,
};

export type ControllerConfig = ConfigOf<typeof controllerSettings>;

/**
 * Where the operator's credential providers are, if there are any.
 *
 * @throws {ConfigError} if only half of it is set.
 */
export function providerFiles({
  credentialProviderConfig: file,
  credentialProviderFolder: folder,
}: Pick<ControllerConfig, "credentialProviderConfig" | "credentialProviderFolder">):
  | { file: string; folder: string }
  | undefined {
  if (file !== undefined && folder !== undefined) return { file, folder };
  if (file === undefined && folder === undefined) return undefined;
  const { credentialProviderConfig, credentialProviderFolder } = controllerSettings;
  const names = [credentialProviderConfig.env, credentialProviderFolder.env];
  const [set, missing] = file === undefined ? names.toReversed() : names;
  throw new ConfigError(`${missing} is required, because ${set} is set`);
}

function isHost(text: string): boolean {
  return /^[a-zA-Z0-9.-]+(:[0-9]{1,5})?$/.test(text);
}

function isNetwork(text: string): boolean {
  const [address = "", prefix = "", ...rest] = text.split("/");
  const bits = isIPv4(address) ? 32 : isIPv6(address) ? 128 : -1;
  return rest.length === 0 && /^[0-9]{1,3}$/.test(prefix) && Number(prefix) <= bits;
}
