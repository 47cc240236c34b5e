import { duration, integer, optional, text, type ConfigOf } from "#config/settings.ts";
import { roleSettings } from "./role.ts";

/** What an operator can set of `coral agent`. */
export const agentSettings = {
  nodeName: text({ env: "NODE_NAME", help: "The node this agent runs on, from the downward API." }),
  namespace: text({
    env: "POD_NAMESPACE",
    default: "coral-system",
    help: "Namespace in which Coral runs, from the downward API.",
  }),
  tokenFile: text({
    env: "CORAL_TOKEN_FILE",
    default: "/var/run/secrets/coral/token",
    help: "This pod's token of audience `coral`, with which the controller is asked for logins.",
  }),
  criSocket: optional(
    text({
      env: "CORAL_CRI_SOCKET",
      help: "Socket of the node's container runtime. If not set, the usual places are tried until one answers.",
    }),
  ),
  pullConcurrency: integer({
    env: "CORAL_PULL_CONCURRENCY",
    min: 1,
    max: 100,
    default: 4,
    help: "Images pulled at the same time on one node. One of these slots is kept from the namespace that has the others, and half of them from any one registry.",
  }),
  pullTimeoutMs: duration({
    env: "CORAL_PULL_TIMEOUT",
    default: 30 * 60_000,
    help: "Longest wait for one image, layers included.",
  }),
  stallTimeoutMs: duration({
    env: "CORAL_STALL_TIMEOUT",
    default: 60_000,
    help: "How long a pull may go on without a byte before it is given up and tried again. With containerd, which shows progress in steps of 1 MiB; other runtimes show none.",
  }),
  diskExpansion: integer({
    env: "CORAL_DISK_EXPANSION",
    min: 1,
    max: 20,
    default: 4,
    help: "What an image takes on a node's disk, as a multiple of its compressed size: it lies there compressed and unpacked.",
  }),
  diskReservePercent: integer({
    env: "CORAL_DISK_RESERVE",
    min: 0,
    max: 90,
    default: 15,
    help: "Percentage of the runtime's disk that pulls leave free. The kubelet removes images and evicts pods when less than 15 % are free, as it comes.",
  }),
  errorThreshold: integer({
    env: "CORAL_ERROR_THRESHOLD",
    min: 1,
    default: 3,
    help: "Failed pulls in a row after which an image is reported as an error. It is retried all the same.",
  }),
  backoffMinMs: duration({
    env: "CORAL_BACKOFF_MIN",
    default: 10_000,
    help: "Longest wait after the first failed pull of an image. It doubles with each failure.",
  }),
  backoffMaxMs: duration({
    env: "CORAL_BACKOFF_MAX",
    default: 10 * 60_000,
    help: "Longest wait after any failed pull of an image.",
  }),
  ...roleSettings,
};

export type AgentConfig = ConfigOf<typeof agentSettings>;
