import { setFlagsFromString } from "node:v8";

import { mirrorShards, registryBudgets } from "#api/v1/resources.ts";
import { systemClock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import { operationsRoutes } from "#http/operations.ts";
import { router } from "#http/router.ts";
import { serve } from "#http/serve.ts";
import { KubeClient } from "#kube/client.ts";
import { Informer } from "#kube/informer.ts";
import type { OwnerReference } from "#kube/types.ts";
import { Health } from "#lifecycle/health.ts";
import { HostSlots } from "#mirror/host-slots.ts";
import type { Ownership } from "#mirror/ownership.ts";
import { recordKeeping } from "#mirror/record-keeping.ts";
import { budgetNames } from "#mirror/worker/budget-name.ts";
import { Membership } from "#mirror/worker/membership.ts";
import { countCopy, mirrorMetrics } from "#mirror/worker/metrics.ts";
import { MirrorWorker } from "#mirror/worker/mirror-worker.ts";
import { connecting, Repositories } from "#mirror/worker/repositories.ts";
import { slimShard } from "#mirror/worker/shard-facts.ts";
import { ShardRunner } from "#mirror/worker/shard-runner.ts";
import { SharedBudgets, type SharedBudgetsOptions } from "#mirror/worker/shared-budgets.ts";
import { nextSyncTime } from "#mirror/worker/timetable.ts";
import { Budgets } from "#remote/budget.ts";
import { networkPolicy } from "#remote/network-policy.ts";
import { SecretWatch } from "#secrets/secret-watch.ts";
import type { Log } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import { mirrorSettings, type MirrorConfig } from "./mirror.config.ts";
import { openProviders, proxiesOf } from "./registries.ts";
import { findCluster, runRole, type ProcessInput } from "./role.ts";

/** Runs `coral mirror`, a worker, until the process is asked to stop. */
export async function runMirror(input: ProcessInput): Promise<void> {
  // Buffers of blobs would pile up until all of the heap is searched for them: see src/remote/README.md.
  setFlagsFromString("--semi-space-growth-factor=1");
  const { env } = input;
  await runRole(mirrorSettings, input, (config, log, signal) =>
    runService({ config, env }, log, signal),
  );
}

async function runService(
  { config, env }: { config: MirrorConfig; env: ProcessInput["env"] },
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  const { namespace, identity, healthPort, version, leaseDurationMs } = config;
  const clock = systemClock;
  const random = Math.random;
  const metrics = new Registry();
  const counts = mirrorMetrics(metrics);
  const health = new Health(signal);

  await using stack = new AsyncDisposableStack(); // Disposed bottom up: last started, first stopped.
  const routes = router(operationsRoutes(health, metrics), log);
  stack.use(await serve(routes, { port: healthPort })); // Probes must answer while we drain.
  const cluster = await findCluster(config);
  const userAgent = `coral-mirror/${version}`;
  const connect = (): KubeClient => new KubeClient({ config: cluster, log, metrics, userAgent });
  const client = stack.use(connect());
  const common = { client, clock, random, log };
  const shards = new Informer({ ...common, resource: mirrorShards, transform: slimShard });
  const budgetInformer = new Informer({ ...common, resource: registryBudgets, namespace });
  const informers = [shards, budgetInformer];
  health.requireForReadiness("caches", () =>
    informers.every(({ hasSynced }) => hasSynced) ? undefined : "waiting for the API server",
  );
  const membership = new Membership({
    ...common,
    namespace,
    identity,
    leaseDurationMs,
    ...ownerOf(config),
  });
  health.requireForReadiness("lease", () =>
    membership.isMember ? undefined : "waiting for its Lease",
  );
  const secrets = stack.use(new SecretWatch({ connect, clock, random, log }));
  const providers = stack.use(await openProviders(config, { env, log, metrics }));
  const exchange = new SharedBudgets({
    ...common,
    budgetInformer,
    membership,
    identity,
    namespace,
    nameOf: namesOfBudgets(shards),
    metrics,
  });
  const repositories = stack.use(
    new Repositories({
      secrets,
      providers,
      providersPushTo: config.providersPushTo,
      clock,
      plainHttp: config.plainHttpRegistries,
      connect: connecting({
        userAgent,
        log,
        clock,
        random,
        proxies: proxiesOf(env),
        network: networkPolicy({ deniedNetworks: config.deniedNetworks }),
        budgets: new Budgets({ clock, random, exchange }),
      }),
    }),
  );
  const runner = new ShardRunner<Ownership>({
    ...common,
    identity,
    repositories,
    keeping: recordKeeping,
    nextSyncTime,
    onEvent: (event) => countCopy(counts, event),
    slots: new HostSlots({
      total: config.tagsAtOnce,
      perSource: config.tagsAtOnce, // It is a quarter that it comes to.
      perTarget: config.tagsAtOnce,
      blobsPerSource: config.blobsPerHost,
    }),
  });
  const worker = new MirrorWorker({
    ...common,
    identity,
    shards,
    membership,
    secrets,
    runner,
    runsAtOnce: config.runsAtOnce,
    metrics: counts,
    registry: metrics,
  });

  // The others take over when the Lease goes, so it goes when nothing runs here any more.
  const standing = stack.use(new TaskGroup(AbortSignal.any([])));
  const group = stack.use(new TaskGroup(signal));
  await Promise.race([
    standing.run((scope) => membership.run(scope)),
    Promise.all([
      ...informers.map((informer) => group.run((scope) => informer.run(scope))),
      group.run((scope) => secrets.run(scope)),
      group.run((scope) => exchange.run(scope)),
      group.run(async (scope) => {
        // What registries told the others is known before one is asked.
        await budgetInformer.synced({ signal: scope });
        await worker.run(scope);
      }),
    ]),
  ]);
}

function ownerOf({ identity: name, podUid: uid }: MirrorConfig): { owner?: OwnerReference } {
  return uid === undefined ? {} : { owner: { apiVersion: "v1", kind: "Pod", name, uid } };
}

/** Budgets are named after the cluster, too, which shards tell: there is none without one. */
function namesOfBudgets(
  shards: Pick<Informer<{ metadata: { name: string }; spec: { cluster: string } }>, "onChange">,
): SharedBudgetsOptions["nameOf"] {
  const { promise, resolve } = Promise.withResolvers<string>();
  const listening = shards.onChange(({ object }) => resolve(object.spec.cluster));
  const names = promise.then((cluster) => {
    listening[Symbol.dispose]();
    return budgetNames(cluster);
  });
  return async (account) => (await names)(account);
}
