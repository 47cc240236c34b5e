import { CertificateFiles } from "#admission/certificate-files.ts";
import { SecretCertificates, serviceNames, type Certificates } from "#admission/certificates.ts";
import { publishCa, type CaPublisherOptions } from "#admission/ca-publisher.ts";
import { admissionCaches } from "#admission/facts/caches.ts";
import { ClusterFacts } from "#admission/facts/cluster-facts.ts";
import { PolicyStatuses } from "#admission/facts/policy-statuses.ts";
import { podRoutes } from "#admission/pod-routes.ts";
import { maxReviewBytes } from "#admission/review-entry.ts";
import { admissionRoutes } from "#admission/routes.ts";
import { needOfPolicies } from "#admission/webhook-need.ts";
import { systemClock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import { controllerCaches, mirrorCaches } from "#controller/caches.ts";
import { Controller } from "#controller/controller.ts";
import { credentialsRoutes } from "#controller/credentials/endpoint.ts";
import { watchImageSecrets } from "#controller/credentials/image-secrets.ts";
import { TokenReviewer } from "#controller/credentials/token-review.ts";
import { MirrorController } from "#controller/mirror/mirror-controller.ts";
import { slotsRoutes } from "#controller/slots/endpoint.ts";
import { ReplicaAddresses } from "#controller/pods.ts";
import { LeaderLink } from "#controller/slots/leader-link.ts";
import { Slots } from "#controller/slots/slots.ts";
import { operationsRoutes } from "#http/operations.ts";
import { router } from "#http/router.ts";
import { serve, serveTls } from "#http/serve.ts";
import { KubeClient } from "#kube/client.ts";
import { EventRecorder } from "#kube/events.ts";
import { runAsLeader } from "#kube/leader-election.ts";
import { mutatingWebhookConfigurations, validatingWebhookConfigurations } from "#kube/resource.ts";
import { Health } from "#lifecycle/health.ts";
import type { Log } from "#telemetry/log.ts";
import { parseRepository } from "#oci/reference.ts";
import { networkPolicy } from "#remote/network-policy.ts";
import { RegistryClient } from "#remote/registry-client.ts";
import { SecretWatch } from "#secrets/secret-watch.ts";
import { Registry } from "#telemetry/metrics.ts";
import { controllerSettings, type ControllerConfig } from "./controller.config.ts";
import { openProviders, proxiesOf } from "./registries.ts";
import { findCluster, runRole, type ProcessInput } from "./role.ts";

/** Each of thousands of agents may hold two; more than that is an attack. */
const maxConnections = 10_000;

/** An API server keeps its connections, and has them told by the next answer that they end. */
const lingerMs = 2_000;

/** The Service under which replicas are reached, and the Lease of the one that leads. */
const service = "coral-controller";
const lease = "coral-controller";

/** Runs `coral controller` until the process is asked to stop. */
export async function runController(input: ProcessInput): Promise<void> {
  const { env } = input;
  await runRole(controllerSettings, input, (config, log, signal) =>
    runService({ config, env }, log, signal),
  );
}

async function runService(
  { config, env }: { config: ControllerConfig; env: ProcessInput["env"] },
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  const { namespace, identity, healthPort, version, leaseDurationMs } = config;
  const clock = systemClock;
  const metrics = new Registry();
  const health = new Health(signal);

  await using stack = new AsyncDisposableStack(); // Disposed bottom up: last started, first stopped.
  const routes = router(operationsRoutes(health, metrics), log);
  stack.use(await serve(routes, { port: healthPort })); // Probes must answer while we drain.
  const cluster = await findCluster(config);
  const userAgent = `coral-controller/${version}`;
  const connect = (): KubeClient => new KubeClient({ config: cluster, log, metrics, userAgent });
  const client = stack.use(connect());
  const common = { client, clock, log };
  const caches = controllerCaches(common, { namespace });
  const { reports, ...others } = caches;
  const ofAdmission = admissionCaches(common);
  const informers = [...Object.values(others), ...Object.values(ofAdmission)];
  health.requireForReadiness("caches", () =>
    informers.every(({ hasSynced }) => hasSynced) ? undefined : "waiting for the API server",
  );
  const settings = {
    ...config,
    quota: {
      allowedRegistries: config.allowedRegistries.map(
        (host) => parseRepository(`${host}/any`).registry, // Docker Hub has several names.
      ),
      references: config.namespaceReferences,
      bytesPerNode: config.namespaceMegabytes * 1_000_000,
    },
  };
  const pullSecrets = stack.use(new SecretWatch({ connect, clock, log }));
  stack.use(watchImageSecrets(caches.images, pullSecrets));
  const recorder = stack.use(
    new EventRecorder({ ...common, controller: "stvz.io/coral-controller", instance: identity }),
  );
  const providers = stack.use(await openProviders(config, { env, log, metrics }));
  const registry = stack.use(
    new RegistryClient({
      userAgent,
      log,
      clock,
      proxies: proxiesOf(env),
      network: networkPolicy({ deniedNetworks: config.deniedNetworks }),
      plainHttp: config.plainHttpRegistries,
    }),
  );
  const controller = stack.use(
    new Controller(settings, {
      ...common,
      ...caches,
      registry,
      pullSecrets,
      providers,
      recorder,
      random: Math.random,
      metrics,
    }),
  );
  const ofMirrors = mirrorCaches(common);
  const mirrorController = new MirrorController({
    ...common,
    ...ofMirrors,
    plans: caches.plans,
    recorder,
    random: Math.random,
    metrics,
    statusIntervalMs: config.statusIntervalMs,
  });
  const { images, plans, nodes, pods: ownPods } = caches;
  const facts = stack.use(
    new ClusterFacts({
      ...ofAdmission,
      images,
      plans,
      nodes,
      ownPods,
      ownNamespace: namespace,
      log,
    }),
  );
  const { policies } = ofAdmission;
  const policyStatuses = new PolicyStatuses({
    ...common,
    policies,
    facts,
    random: Math.random,
    metrics,
  });
  const certificates = certificatesOf(config, common);
  health.requireForReadiness("certificate", () =>
    certificates.current() ? undefined : "waiting for a certificate",
  );
  const replicas = stack.use(new ReplicaAddresses(caches.pods));
  const reviewer = new TokenReviewer({
    client,
    clock,
    namespace,
    serviceAccount: "coral-agent",
    isReplica: (address) => replicas.has(address),
  });
  const credentials = credentialsRoutes({
    ...caches,
    reviewer,
    secrets: pullSecrets,
    providers,
    hasSynced: () => informers.every(({ hasSynced }) => hasSynced),
    log,
  });
  const slots = new Slots();
  const leader = stack.use(
    new LeaderLink({
      client,
      namespace,
      lease,
      identity,
      port: config.httpsPort,
      serverName: `${service}.${namespace}.svc`,
      ca: () => certificates.ca(),
    }),
  );
  const secureRoutes = router(
    {
      ...admissionRoutes({ log, metrics }),
      ...podRoutes({ facts, log, metrics }),
      ...credentials,
      ...slotsRoutes({
        ...caches,
        reviewer,
        slots,
        leader,
        totalNodesOf: (key) => controller.totalNodesOf(key),
        log,
      }),
    },
    log,
  );
  stack.use(
    await serveTls(secureRoutes, {
      port: config.httpsPort,
      certificates,
      maxBodyBytes: maxReviewBytes,
      maxConnections,
      lingerMs,
    }),
  );
  const group = stack.use(new TaskGroup(signal));
  // Reports are most of what a controller is sent, and the leader alone acts on them. It keeps them when
  // it loses the lead: it may get it back.
  let reporting: Promise<void> | undefined;
  const watchReports = async (leading: AbortSignal): Promise<void> => {
    reporting ??= group.run((scope) => reports.run(scope));
    await reports.synced({ signal: leading });
  };
  let mirroring: Promise<unknown> | undefined;
  const leadMirrors = async (leading: AbortSignal): Promise<void> => {
    const watched = Object.values(ofMirrors);
    mirroring ??= Promise.all(watched.map((informer) => group.run((scope) => informer.run(scope))));
    await Promise.all(watched.map((informer) => informer.synced({ signal: leading })));
    await mirrorController.lead(leading);
  };
  await Promise.all([
    group.run((scope) => certificates.run(scope)),
    group.run((scope) => pullSecrets.run(scope)),
    ...informers.map((informer) => group.run((scope) => informer.run(scope))),
    group.run(async (scope) => {
      await Promise.all(informers.map((informer) => informer.synced({ signal: scope })));
      const election = { ...common, namespace, name: lease, identity };
      await runAsLeader(
        {
          ...election,
          leaseDurationMs,
          renewDeadlineMs: (leaseDurationMs * 2) / 3,
          retryPeriodMs: Math.min(2_000, leaseDurationMs / 5),
          signal: scope,
        },
        async (leading) => {
          await watchReports(leading);
          await using tasks = new TaskGroup(leading);
          await Promise.all([
            tasks.run((scope) => controller.lead(scope)),
            tasks.run((scope) => leadMirrors(scope)),
            tasks.run((scope) => slots.lead(scope)),
            tasks.run((scope) => policyStatuses.lead(scope)),
            tasks.run((scope) =>
              publishCa({ ...common, ...published(config, policies), certificates }, scope),
            ),
          ]);
        },
      );
    }),
  ]);
}

type Common = ConstructorParameters<typeof SecretCertificates>[0];

function certificatesOf(
  { tlsFolder, namespace }: ControllerConfig,
  common: Pick<Common, "client" | "clock" | "log">,
): Certificates {
  if (tlsFolder !== undefined) return new CertificateFiles({ ...common, folder: tlsFolder });
  const dnsNames = serviceNames(service, namespace);
  return new SecretCertificates({ ...common, namespace, name: "coral-tls", dnsNames });
}

/** Where the authorities are told. Who brings the certificates also tells the API server. */
function published(
  { tlsFolder, namespace }: ControllerConfig,
  policies: Parameters<typeof needOfPolicies>[0],
): Pick<CaPublisherOptions, "namespace" | "configMap" | "webhooks"> {
  const configurations = [
    { resource: validatingWebhookConfigurations, name: "coral-validation" },
    { resource: validatingWebhookConfigurations, name: "coral-pods" },
    { resource: mutatingWebhookConfigurations, name: "coral-mutation" },
  ];
  const need = needOfPolicies(policies);
  const webhooks = { configurations, tellsCa: tlsFolder === undefined, need };
  return { namespace, configMap: "coral-ca", webhooks };
}
