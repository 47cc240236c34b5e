import { Agent } from "#agent/agent.ts";
import { connectRuntime, knownSockets, socketPath } from "#agent/connect-runtime.ts";
import { agentMetrics } from "#agent/metrics.ts";
import { ControllerClient } from "#agent/controller-client.ts";
import { clusterReportStore, nodeReportMetadata } from "#agent/report-store.ts";
import { runtimeDisk, type DiskPolicy } from "#agent/disk.ts";
import { StallWatch } from "#agent/stall-watch.ts";
import { slimNode, slimPlan, slimReport } from "#agent/transforms.ts";
import { imagePlans } from "#api/v1/resources.ts";
import { systemClock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import { RuntimeClient } from "#cri/runtime-client.ts";
import { operationsRoutes } from "#http/operations.ts";
import { router } from "#http/router.ts";
import { serve } from "#http/serve.ts";
import { KubeClient } from "#kube/client.ts";
import { tokenFile } from "#kube/cluster-config.ts";
import { Informer } from "#kube/informer.ts";
import { nodes } from "#kube/resource.ts";
import { Health } from "#lifecycle/health.ts";
import type { Log } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import { agentSettings, type AgentConfig } from "./agent.config.ts";
import { findCluster, runRole, type ProcessInput } from "./role.ts";

/** Runs `coral agent` until the process is asked to stop. */
export async function runAgent(input: ProcessInput): Promise<void> {
  await runRole(agentSettings, input, runService);
}

async function runService(config: AgentConfig, roleLog: Log, signal: AbortSignal): Promise<void> {
  const { nodeName, namespace, criSocket, healthPort, version } = config;
  const log = roleLog.child({ node: nodeName });
  const clock = systemClock;
  const random = Math.random;
  const metrics = new Registry();
  const counts = agentMetrics(metrics);
  const health = new Health(signal);
  let agent: Agent | undefined;
  health.requireForReadiness("agent", () =>
    agent ? agent.problem() : "waiting for the container runtime",
  );

  await using stack = new AsyncDisposableStack(); // Disposed bottom up: last started, first stopped.
  const routes = router(operationsRoutes(health, metrics), log);
  stack.use(await serve(routes, { port: healthPort })); // Probes must answer while we drain.
  const cluster = await findCluster(config);
  const userAgent = `coral-agent/${version}`;
  const client = stack.use(new KubeClient({ config: cluster, log, metrics, userAgent }));
  const common = { clock, random, log };
  const plans = new Informer({
    ...common,
    client,
    resource: imagePlans,
    transform: slimPlan,
  });
  const own = { ...common, client, fieldSelector: `metadata.name=${nodeName}` };
  const ownNode = new Informer({ ...own, resource: nodes, transform: slimNode });
  const ownReport = new Informer({ ...own, resource: nodeReportMetadata, transform: slimReport });

  const controller = stack.use(
    new ControllerClient({ client, namespace, token: tokenFile(config.tokenFile), clock }),
  );

  const group = stack.use(new TaskGroup(signal));
  const sockets = criSocket ? [socketPath(criSocket)] : knownSockets;
  await Promise.all([
    group.run((signal) => plans.run(signal)),
    group.run((signal) => ownNode.run(signal)),
    group.run((signal) => ownReport.run(signal)),
    group.run(async (signal) => {
      // The caches fill while the runtime is looked for.
      await using runtime = await connectRuntime(
        {
          ...common,
          sockets,
          connect: (path, options) => RuntimeClient.connect(path, options),
        },
        { signal },
      );
      agent = new Agent(
        { ...config, agentVersion: version },
        {
          ...common,
          runtime,
          plans,
          nodes: ownNode,
          ownReport,
          logins: controller,
          slots: controller,
          stalls: new StallWatch({
            ...common,
            transfers: runtime,
            timeoutMs: config.stallTimeoutMs,
          }),
          disk: { source: runtimeDisk(runtime), policy: diskPolicyOf(config) },
          reports: clusterReportStore(client, nodeName),
          metrics: counts,
        },
      );
      await agent.run(signal);
    }),
  ]);
}

function diskPolicyOf({ diskExpansion, diskReservePercent }: AgentConfig): DiskPolicy {
  return { expansion: diskExpansion, reservePercent: diskReservePercent };
}
