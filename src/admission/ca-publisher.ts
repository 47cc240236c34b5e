import type { Clock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import type { KubeClient } from "#kube/client.ts";
import { Informer } from "#kube/informer.ts";
import { settled, type Reconcile, type ReconcileContext } from "#kube/reconcile.ts";
import { configMaps, type Resource } from "#kube/resource.ts";
import type { ConfigMap, KubeObject, WebhookConfiguration } from "#kube/types.ts";
import { WorkQueue } from "#kube/work-queue.ts";
import type { Log } from "#telemetry/log.ts";
import type { Certificates } from "./certificates.ts";
import { configurationPatch } from "./webhook-configuration.ts";
import type { WebhookNeed } from "./webhook-need.ts";

/** The webhook configurations that tell the API server. */
export interface Webhooks {
  readonly configurations: readonly {
    readonly resource: Resource<WebhookConfiguration>;
    readonly name: string;
  }[];
  /** Whether they are told the authorities; else another sees to it. */
  readonly tellsCa: boolean;
  readonly need: WebhookNeed;
}

export interface CaPublisherOptions {
  client: Pick<KubeClient, "listRaw" | "watch" | "watchError" | "create" | "patch">;
  certificates: Pick<Certificates, "ca" | "onChange">;
  namespace: string;
  /** The ConfigMap that tells Coral's own clients, under `ca.crt`. */
  configMap: string;
  webhooks: Webhooks;
  clock: Clock;
  random?: () => number;
  log: Log;
}

const backoff = { minMs: 200, maxMs: 60_000 };

/**
 * Tells clients which authorities to trust, and the API server which webhooks to ask, until aborted; for
 * the leader alone.
 *
 * It writes only what differs, so that a steady cluster costs no writes, and mends what a person
 * changed. A ConfigMap that is gone is made anew. A webhook configuration that is gone stays so:
 * somebody wants no webhook.
 */
export async function publishCa(options: CaPublisherOptions, signal: AbortSignal): Promise<void> {
  const { certificates, clock, random = Math.random, log, webhooks } = options;
  const queue = new WorkQueue({ name: "ca", clock, random, backoff });
  const places = new Map<string, Place>([
    ["configmap", configMapOf(options)],
    ...webhooks.configurations.map(
      ({ resource, name }) => [name, webhooksOf(options, resource, name)] as const,
    ),
  ]);

  const reconcile: Reconcile = async (key, scope) => {
    await places.get(key)?.publish(certificates.ca(), scope);
    return settled;
  };

  await using group = new TaskGroup(signal);
  using listeners = new DisposableStack();
  const running = [...places.values()].map(({ informer }) =>
    group.run((scope) => informer.run(scope)),
  );
  const synced = [...places.values()].map(({ informer }) =>
    informer.synced({ signal: group.signal }),
  );
  await Promise.all(synced).catch(() => {}); // Aborted: all ends.
  for (const [key, { informer }] of places) {
    listeners.use(informer.onChange(() => queue.add(key)));
    listeners.use(certificates.onChange(() => queue.add(key)));
    listeners.use(webhooks.need.onChange(() => queue.add(key)));
    queue.add(key); // Also if there is nothing yet that could change.
  }
  const working = group.run((scope) => queue.run(reconcile, { workers: 1, log, signal: scope }));
  await Promise.all([...running, working]);
}

/** Where the authorities are published, and how, if it differs. */
interface Place {
  readonly informer: Pick<Informer<KubeObject>, "run" | "synced"> & {
    onChange(listener: () => void): Disposable;
  };
  /** @param ca - before there is one there is nothing to tell; it comes, and we hear of it. */
  publish(ca: string | undefined, context: ReconcileContext): Promise<void>;
}

function configMapOf({ client, namespace, configMap, ...common }: CaPublisherOptions): Place {
  const key = { namespace, name: configMap };
  const informer = new Informer({
    ...common,
    client,
    resource: configMaps,
    namespace,
    fieldSelector: `metadata.name=${configMap}`,
  });
  return {
    informer,
    async publish(ca, { log, signal }) {
      const current = informer.get(key);
      if (ca === undefined || current?.data?.["ca.crt"] === ca) return;
      log.info("publishing the authorities", { kind: configMaps.kind, ...key });
      const data = { "ca.crt": ca };
      if (current) await client.patch(configMaps, key, { type: "merge", body: { data }, signal });
      else await client.create<ConfigMap>(configMaps, { metadata: key, data }, { signal });
    },
  };
}

function webhooksOf(
  { client, clock, random, log, webhooks: { tellsCa, need } }: CaPublisherOptions,
  resource: Resource<WebhookConfiguration>,
  name: string,
): Place {
  const informer = new Informer({
    client,
    clock,
    log,
    ...(random && { random }),
    resource,
    fieldSelector: `metadata.name=${name}`,
  });
  return {
    informer,
    async publish(ca, { log, signal }) {
      const current = informer.get({ name });
      if (!current) return;
      const caBundle = tellsCa && ca !== undefined ? Buffer.from(ca).toString("base64") : undefined;
      const body = configurationPatch(current, (webhook) => {
        const isAsked = need.isNeeded(webhook);
        return {
          ...(caBundle !== undefined && { caBundle }),
          ...(isAsked !== undefined && { isAsked }),
        };
      });
      if (body.length === 0) return;
      log.info("telling the API server of webhooks", { kind: resource.kind, name });
      await client.patch(resource, { name }, { type: "json", body, signal });
    },
  };
}
