import { imagePlans, images, nodeReports } from "#api/v1/resources.ts";
import { systemClock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import { Controller } from "#controller/controller.ts";
import { reportSlimmer, slimImage, slimNode, slimPlan, slimPod } from "#controller/transforms.ts";
import { operationsRoutes } from "#http/operations.ts";
import { router } from "#http/router.ts";
import { serve } from "#http/serve.ts";
import { KubeClient } from "#kube/client.ts";
import { Informer } from "#kube/informer.ts";
import { runAsLeader } from "#kube/leader-election.ts";
import { nodes, pods } from "#kube/resource.ts";
import { Health } from "#lifecycle/health.ts";
import type { Log } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import { controllerSettings, type ControllerConfig } from "./controller.config.ts";
import { findCluster, runRole, type ProcessInput } from "./role.ts";

/** Label that tells the agents' pods from the controller's own. */
const agentSelector = "app.kubernetes.io/name=coral,app.kubernetes.io/component=agent";

/** Runs `coral controller` until the process is asked to stop. */
export async function runController(input: ProcessInput): Promise<void> {
  await runRole(controllerSettings, input, runService);
}

async function runService(config: ControllerConfig, log: Log, signal: AbortSignal): Promise<void> {
  const { namespace, identity, healthPort, version, leaseDurationMs } = config;
  const clock = systemClock;
  const metrics = new Registry();
  const health = new Health(signal);

  await using stack = new AsyncDisposableStack(); // Disposed bottom up: last started, first stopped.
  const routes = router(operationsRoutes(health, metrics), log);
  stack.use(await serve(routes, { port: healthPort })); // Probes must answer while we drain.
  const cluster = await findCluster(config);
  const userAgent = `coral-controller/${version}`;
  const client = stack.use(new KubeClient({ config: cluster, log, metrics, userAgent }));
  const common = { client, clock, log };
  const caches = {
    images: new Informer({ ...common, resource: images, transform: slimImage }),
    plans: new Informer({ ...common, resource: imagePlans, transform: slimPlan }),
    reports: new Informer({ ...common, resource: nodeReports, transform: reportSlimmer() }),
    nodes: new Informer({ ...common, resource: nodes, transform: slimNode }),
    pods: new Informer({
      ...common,
      resource: pods,
      namespace,
      labelSelector: agentSelector,
      transform: slimPod,
    }),
  };
  const informers = Object.values(caches);
  health.requireForReadiness("caches", () =>
    informers.every(({ hasSynced }) => hasSynced) ? undefined : "waiting for the API server",
  );
  const controller = stack.use(
    new Controller(config, { ...common, ...caches, random: Math.random, metrics }),
  );
  const group = stack.use(new TaskGroup(signal));
  await Promise.all([
    ...informers.map((informer) => group.run((scope) => informer.run(scope))),
    group.run(async (scope) => {
      await Promise.all(informers.map((informer) => informer.synced({ signal: scope })));
      const election = { ...common, namespace, name: "coral-controller", identity };
      await runAsLeader(
        {
          ...election,
          leaseDurationMs,
          renewDeadlineMs: (leaseDurationMs * 2) / 3,
          retryPeriodMs: Math.min(2_000, leaseDurationMs / 5),
          signal: scope,
        },
        (leading) => controller.lead(leading),
      );
    }),
  ]);
}
