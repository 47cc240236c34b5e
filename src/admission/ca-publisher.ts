import type { Clock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import type { KubeClient } from "#kube/client.ts";
import { Informer } from "#kube/informer.ts";
import { settled, type Reconcile, type ReconcileContext } from "#kube/reconcile.ts";
import { configMaps, validatingWebhookConfigurations } from "#kube/resource.ts";
import type { ConfigMap, ValidatingWebhookConfiguration } from "#kube/types.ts";
import { WorkQueue } from "#kube/work-queue.ts";
import type { Log } from "#telemetry/log.ts";
import type { Certificates } from "./certificates.ts";

export interface CaPublisherOptions {
  client: Pick<KubeClient, "listRaw" | "watch" | "watchError" | "create" | "patch">;
  certificates: Pick<Certificates, "ca" | "onChange">;
  namespace: string;
  /** The ConfigMap that tells Coral's own clients, under `ca.crt`. */
  configMap: string;
  /** The ValidatingWebhookConfiguration that tells the API server; none if another sees to it. */
  webhooks?: string;
  clock: Clock;
  random?: () => number;
  log: Log;
}

const backoff = { minMs: 200, maxMs: 60_000 };

/**
 * Tells clients which authorities to trust, until aborted; for the leader alone.
 *
 * It writes only what differs, so that a steady cluster costs no writes, and mends what a person
 * changed. A ConfigMap that is gone is made anew. A webhook configuration that is gone stays so:
 * somebody wants no webhook.
 */
export async function publishCa(options: CaPublisherOptions, signal: AbortSignal): Promise<void> {
  const { certificates, clock, random = Math.random, log, webhooks } = options;
  const queue = new WorkQueue({ name: "ca", clock, random, backoff });
  const places = new Map<string, Place>([["configmap", configMapOf(options)]]);
  if (webhooks !== undefined) places.set("webhooks", webhooksOf(options, webhooks));

  const reconcile: Reconcile = async (key, scope) => {
    const ca = certificates.ca();
    // Before there is one there is nothing to tell; it comes, and we hear of it.
    if (ca !== undefined) await places.get(key)?.publish(ca, scope);
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
    queue.add(key); // Also if there is nothing yet that could change.
  }
  const working = group.run((scope) => queue.run(reconcile, { workers: 1, log, signal: scope }));
  await Promise.all([...running, working]);
}

/** Where the authorities are published, and how, if it differs. */
interface Place {
  readonly informer: Pick<Informer<ConfigMap>, "run" | "synced"> & {
    onChange(listener: () => void): Disposable;
  };
  publish(ca: string, context: ReconcileContext): Promise<void>;
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
      if (current?.data?.["ca.crt"] === ca) return;
      log.info("publishing the authorities", { kind: configMaps.kind, ...key });
      const data = { "ca.crt": ca };
      if (current) await client.patch(configMaps, key, { type: "merge", body: { data }, signal });
      else await client.create<ConfigMap>(configMaps, { metadata: key, data }, { signal });
    },
  };
}

function webhooksOf({ client, clock, random, log }: CaPublisherOptions, name: string): Place {
  const resource = validatingWebhookConfigurations;
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
      const body = current ? bundlePatch(current, Buffer.from(ca).toString("base64")) : [];
      if (body.length === 0) return;
      log.info("publishing the authorities", { kind: resource.kind, name });
      await client.patch(resource, { name }, { type: "json", body, signal });
    },
  };
}

/** An RFC 6902 operation. */
export interface Operation {
  readonly op: "test" | "add";
  readonly path: string;
  readonly value: string;
}

/**
 * Makes the patch that gives every webhook these authorities and changes nothing else; empty if
 * they have them. It fails as a whole if the webhooks were reordered meanwhile.
 */
export function bundlePatch(
  { webhooks = [] }: ValidatingWebhookConfiguration,
  caBundle: string,
): Operation[] {
  return webhooks.flatMap(({ name, clientConfig }, index) =>
    clientConfig.caBundle === caBundle
      ? []
      : [
          { op: "test", path: `/webhooks/${index}/name`, value: name },
          { op: "add", path: `/webhooks/${index}/clientConfig/caBundle`, value: caBundle },
        ],
  );
}
