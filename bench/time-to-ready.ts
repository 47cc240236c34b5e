import { images } from "#api/v1/resources.ts";
import { systemClock } from "#async/clock.ts";
import type { KubeClient } from "#kube/client.ts";
import { Informer } from "#kube/informer.ts";
import { silentLog } from "#telemetry/log.ts";
import type { SandboxNode } from "#sandbox/sandbox-node.ts";
import { waitFor } from "#sandbox/wait.ts";
import { holds } from "#test/cluster.ts";

type Scope = { signal: AbortSignal };

/** One image, and the Image object that asks for it. */
export interface Wanted {
  /** With a tag: `registry.test:5000/library/node:26`. */
  reference: string;
  key: { namespace: string; name: string };
}

/**
 * Creates an Image and measures until its status says Ready, in seconds. The Image is deleted
 * afterwards, and the node's agent has forgotten it when this returns.
 */
export async function secondsToReady(
  client: KubeClient,
  node: SandboxNode,
  { reference, key, signal }: Wanted & Scope,
): Promise<number> {
  const stop = new AbortController();
  const scope = { signal: AbortSignal.any([signal, stop.signal]) };
  const { namespace } = key;
  const common = { client, log: silentLog, clock: systemClock };
  const informer = new Informer({ ...common, resource: images, namespace });
  const feed = informer.run(scope.signal);
  await informer.synced(scope);
  const ready = Promise.withResolvers<number>();
  using _changes = informer.onChange(({ type, object }) => {
    const condition = object.status?.conditions?.find((each) => each.type === "Ready");
    if (type !== "deleted" && condition?.status === "True") ready.resolve(performance.now());
  });
  const timeout = AbortSignal.timeout(120_000);
  timeout.addEventListener("abort", () => ready.reject(timeout.reason), { once: true });
  const colon = reference.lastIndexOf(":");
  const repository = { name: reference.slice(0, colon), tags: [reference.slice(colon + 1)] };
  const start = performance.now();
  const spec = { repositories: [repository] };
  const body = { apiVersion: "stvz.io/v1", kind: "Image", metadata: { ...key }, spec };
  const path = `/apis/stvz.io/v1/namespaces/${namespace}/images`;
  const created = await client.request({ method: "POST", path, body, signal });
  if (created.status !== 201) throw new Error(`The Image was answered with ${created.status}`);
  const end = await ready.promise;
  await client.delete(images, key, { signal });
  // The agent would pull a removed image again: it must have forgotten it first.
  await forgotten(client, node, reference, { signal });
  stop.abort(new Error("The Image is Ready"));
  await feed;
  return (end - start) / 1000;
}

/** Waits until the node's agent reports nothing whose reference holds `text`. */
export async function forgotten(
  client: KubeClient,
  node: SandboxNode,
  text: string,
  { signal }: Scope,
): Promise<void> {
  await waitFor(
    async () => {
      const report = `/apis/stvz.io/v1/nodereports/${node.name}`;
      const answer = await client.request({ method: "GET", path: report, signal });
      return !JSON.stringify(answer.body).includes(text);
    },
    { what: "the agent to forget the image", everyMs: 200, signal },
  );
}

/** Removes an image from a node; containerd lets go of its layers before it answers. */
export async function emptyStore(
  node: SandboxNode,
  reference: string,
  { signal }: Scope,
): Promise<void> {
  if (await holds(node, reference, { signal })) await node.crictl(["rmi", reference], { signal });
}
