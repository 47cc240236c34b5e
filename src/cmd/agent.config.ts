import { duration, integer, optional, text, type ConfigOf } from "#config/settings.ts";
import { roleSettings } from "./role.ts";

/** What an operator can set of `coral agent`. */
export const agentSettings = {
  nodeName: text({ env: "NODE_NAME", help: "The node this agent runs on, from the downward API." }),
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
    help: "Images pulled at the same time on one node. One of these slots is kept from the namespace that has the others.",
  }),
  pullTimeoutMs: duration({
    env: "CORAL_PULL_TIMEOUT",
    default: 30 * 60_000,
    help: "Longest wait for one image, layers included.",
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
