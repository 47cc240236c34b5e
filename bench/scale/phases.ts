import { imageLabel } from "#api/v1/labels.ts";
import { images } from "#api/v1/resources.ts";
import { nodes } from "#kube/resource.ts";
import type { Pod } from "#kube/types.ts";
import { openRegistry } from "#sandbox/registry-hosts.ts";
import { imageNamespace, imageObject, referencesOf } from "./images.ts";
import type { FleetFigures } from "./messages.ts";
import { deletePods, simulatedLabel } from "./nodes.ts";
import type { World } from "./world.ts";

/** One node in so many restarts. */
const restartedOneIn = 10;

/** What happens long after it should have is a failure of the run. */
const patienceMs = 5 * 60_000;

export interface Filled {
  /** From the first Image until all statuses were right. */
  seconds: number;
  /** When all statuses were right, in milliseconds since the epoch. */
  rightMs: number;
  /** What the agents did since their start. */
  figures: FleetFigures;
}

/** Asks for all Images at once and waits until every status is right. */
export async function fill(world: World): Promise<Filled> {
  const { wanted, signal, fleet } = world;
  const startMs = Date.now();
  await Promise.all(wanted.map((application) => create(world, imageObject(application))));
  const rightMs = await world.untilRight(wanted.length);
  const figures = await fleet.figures({ signal });
  return {
    seconds: (rightMs - startMs) / 1_000,
    rightMs,
    figures,
  };
}

/** Waits until every node has the label of every image. @returns for how many seconds. */
export async function waitForLabels(world: World): Promise<number> {
  const { client, signal, wanted, options } = world;
  const keys = wanted.flatMap(referencesOf).map(imageLabel);
  const startMs = Date.now();
  const areRight = async (): Promise<boolean> => {
    const { items } = await client.list(nodes, { labelSelector: simulatedLabel, signal });
    const right = items.filter(({ metadata: { labels = {} } }) =>
      keys.every((key) => labels[key] === "available"),
    );
    return right.length === options.nodes;
  };
  await world.until("every label", areRight, { everyMs: 1_000, timeoutMs: patienceMs });
  return (Date.now() - startMs) / 1_000;
}

/** Adds a tag to one Image. @returns after how many seconds its status is right. */
export async function addImage(world: World): Promise<number> {
  const { client, signal, wanted, grown } = world;
  const startMs = Date.now();
  const { metadata, spec } = imageObject(grown);
  const key = { namespace: imageNamespace, name: grown.name };
  await client.patch(images, key, { type: "merge", body: { metadata, spec }, signal });
  await world.until(
    "the new generation",
    () => (world.images.get(key)?.metadata.generation ?? 0) > 1,
  );
  return ((await world.untilRight(wanted.length)) - startMs) / 1_000;
}

/**
 * Restarts a tenth of the nodes: their agents end, their pods go and come again, and their new
 * agents find the images where they were.
 *
 * @returns after how many seconds all agents are back and every status is right.
 */
export async function restartNodes(world: World): Promise<{ seconds: number; nodes: number }> {
  const { client, signal, fleet, wanted, options } = world;
  const before = world.agentPods().filter((_, index) => index % restartedOneIn === 0);
  const names = before.map(nodeOf);
  const startMs = Date.now();
  await fleet.stopAgents(names, { signal });
  await deletePods(client, before, { signal });
  const gone = new Set(before.map(({ metadata }) => metadata.uid));
  const comeAgain = (): Pod[] =>
    world.agentPods().filter((pod) => names.includes(nodeOf(pod)) && !gone.has(pod.metadata.uid));
  await world.until("the agents' new pods", () => comeAgain().length === names.length, {
    timeoutMs: patienceMs,
  });
  await world.startAgents(comeAgain());
  await world.until("all pods to be known", () => world.agentPods().length === options.nodes);
  const rightMs = await world.untilRight(wanted.length);
  return { seconds: (rightMs - startMs) / 1_000, nodes: names.length };
}

/**
 * Asks for an image with a pull secret, and changes the secret when all nodes have the image.
 *
 * @returns after how many seconds the plan tells the agents of it and all statuses are right, and
 * what their watches were sent for it.
 */
export async function rotateSecret(world: World): Promise<{ seconds: number; bytes: number }> {
  const { fleet, signal, wanted, withSecret } = world;
  const key = { namespace: imageNamespace, name: withSecret.name };
  await putSecret(world, "first");
  const image = imageObject(withSecret);
  await create(world, {
    ...image,
    spec: { ...image.spec, imagePullSecrets: [{ name: secretName }] },
  });
  const count = wanted.length + 1;
  await world.untilRight(count);
  const revision = (): string | undefined => world.plans.get(key)?.spec.pullSecretsRevision;
  const first = revision();
  const before = await fleet.figures({ signal });
  return world.span("rotated", async () => {
    const startMs = Date.now();
    await putSecret(world, "second");
    await world.until("the plan's new revision", () => revision() !== first, {
      timeoutMs: patienceMs,
    });
    const rightMs = await world.untilRight(count);
    const after = await fleet.figures({ signal });
    return { seconds: (rightMs - startMs) / 1_000, bytes: bytesOf(after) - bytesOf(before) };
  });
}

function bytesOf({ planBytes, nodeBytes, reportBytes }: FleetFigures): number {
  return planBytes + nodeBytes + reportBytes;
}

const secretName = "pull";

/** A login that the open registry does not look at: the way to the nodes is what is measured. */
async function putSecret({ sandbox, signal }: World, password: string): Promise<void> {
  const auth = Buffer.from(`scale:${password}`).toString("base64");
  const config = JSON.stringify({ auths: { [openRegistry.host]: { auth } } });
  const secret = {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: secretName, namespace: imageNamespace },
    type: "kubernetes.io/dockerconfigjson",
    data: { ".dockerconfigjson": Buffer.from(config).toString("base64") },
  };
  await sandbox.kubectl(["apply", "-f", "-"], { input: JSON.stringify(secret), signal });
}

async function create({ client, signal }: World, body: unknown): Promise<void> {
  const path = `/apis/stvz.io/v1/namespaces/${imageNamespace}/images`;
  const answer = await client.request({ method: "POST", path, body, signal });
  if (answer.status === 201) return;
  throw new Error(`An Image was answered with ${answer.status}: ${JSON.stringify(answer.body)}`);
}

function nodeOf({ spec }: Pod): string {
  return spec?.nodeName ?? "";
}
