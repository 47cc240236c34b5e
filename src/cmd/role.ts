import {
  choice,
  ConfigError,
  integer,
  optional,
  readConfig,
  text,
  type ConfigOf,
  type Setting,
} from "#config/settings.ts";
import { inClusterConfig, kubeconfigFile, type ClusterConfig } from "#kube/cluster-config.ts";
import { runProcess } from "#lifecycle/run-process.ts";
import { jsonLog, type Log } from "#telemetry/log.ts";

/** What an operator can set of every role. */
export const roleSettings = {
  healthPort: integer({
    env: "CORAL_HEALTH_PORT",
    min: 0,
    max: 65_535,
    default: 8081,
    help: "Port of /startupz, /healthz, /readyz and /metrics.",
  }),
  logLevel: choice({
    env: "CORAL_LOG_LEVEL",
    of: ["error", "warn", "info", "debug"],
    default: "info",
    help: "The least severe lines that are logged.",
  }),
  kubeconfig: optional(
    text({
      env: "KUBECONFIG",
      help: "File that says how to reach the cluster. If not set, the pod's own service account is used.",
    }),
  ),
  version: text({
    env: "CORAL_VERSION",
    default: "0.1.0",
    help: "The version that a role names to others, set in Coral's image.",
  }),
};

/** Time for what is in hand to settle after the process was asked to stop. */
const drainTimeoutMs = 10_000;

/** Environment and flags of a process. */
export interface ProcessInput {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The flags after the subcommand. */
  readonly argv: readonly string[];
}

/**
 * Runs a role until the process is asked to stop. Settings that are wrong are told all at once, and
 * make the exit code 2, as does a `ConfigError` of the service.
 */
export async function runRole<
  Settings extends Record<string, Setting<unknown>> & typeof roleSettings,
>(
  settings: Settings,
  { env, argv }: ProcessInput,
  service: (config: ConfigOf<Settings>, log: Log, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  let config: ConfigOf<Settings>;
  try {
    config = readConfig(settings, env, argv);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    console.error(error.message);
    process.exitCode = 2;
    return;
  }
  const { logLevel: level }: ConfigOf<typeof roleSettings> = config;
  const log = jsonLog({ level, write: (line) => process.stderr.write(line) });
  await runProcess({ log, drainTimeoutMs }, async (signal) => {
    try {
      await service(config, log, signal);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      console.error(error.message); // Of what a setting names, such as a file.
      process.exitCode = 2;
    }
  });
}

/** Finds the cluster: by the file that is set, else as the pod that this is. */
export async function findCluster({
  kubeconfig,
}: ConfigOf<typeof roleSettings>): Promise<ClusterConfig> {
  return kubeconfig === undefined ? inClusterConfig() : kubeconfigFile(kubeconfig);
}
