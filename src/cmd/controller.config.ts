import { duration, text, type ConfigOf } from "#config/settings.ts";
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
  leaseDurationMs: duration({
    env: "CORAL_LEASE_DURATION",
    default: 15_000,
    help: "How long the other replicas wait for a sign of the leader before one takes over.",
  }),
  ...roleSettings,
};

export type ControllerConfig = ConfigOf<typeof controllerSettings>;
