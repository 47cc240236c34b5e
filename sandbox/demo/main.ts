import { parseArgs, styleText } from "node:util";

import type { Image } from "#api/v1/image.ts";
import { images, nodeReports } from "#api/v1/resources.ts";
import { isAbort } from "#async/abort.ts";
import { systemClock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import { Informer } from "#kube/informer.ts";
import { silentLog } from "#telemetry/log.ts";
import { ensureColdImage } from "#sandbox/images/fixture-images.ts";
import { installCoral } from "#sandbox/install-coral.ts";
import { openRegistry } from "#sandbox/registry-hosts.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import { secondsToRunning } from "./pod-race.ts";
import { formatCell, formatTable, Progress, shortName, type Cell } from "./progress-table.ts";

type Scope = { signal: AbortSignal };

const { keep, name } = parseArgs({
  options: {
    keep: { type: "boolean", default: false },
    name: { type: "string", default: "demo" },
  },
}).values;
const nodeCount = 3;
const references = [Sandbox.images.small, Sandbox.images.index, Sandbox.images.large];
/** The same content as the large image, of which no node has anything. */
const coldReference = `${openRegistry.host}/library/cold-node:26`;

const imageKey = { namespace: "demo", name: "web" };
const manifest = `apiVersion: stvz.io/v1
kind: Image
metadata: {name: web, namespace: demo}
spec:
  repositories:
    - {name: "${openRegistry.host}/library/hello", tags: ["1"]}
    - {name: "${openRegistry.host}/library/multi", tags: ["1"]}
    - {name: "${openRegistry.host}/library/node", tags: ["26"]}
`;

const stop = new AbortController();
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(name, () => {
    if (!stop.signal.aborted) console.log(`\n${name}: cleaning up`);
    stop.abort(new Error(`Received ${name}`));
  });
}
try {
  await demo({ signal: stop.signal });
} catch (error) {
  if (!isAbort(error, stop.signal)) {
    console.error(error instanceof Error ? error.message : String(error));
  }
  process.exitCode = isAbort(error, stop.signal) ? 130 : 1;
}

async function demo({ signal }: Scope): Promise<void> {
  step(`A Kubernetes cluster of ${nodeCount} nodes on this machine`);
  const upStart = performance.now();
  await using sandbox = await Sandbox.start({
    name,
    nodes: nodeCount,
    report: say,
    signal,
  });
  say(`${nodeCount} nodes are Ready after ${secondsSince(upStart)}`);

  step("Coral, from the manifests in deploy/");
  const installStart = performance.now();
  const { sizeBytes, bundleBytes } = await installCoral(sandbox, { signal });
  say(
    `controller and agents are ready after ${secondsSince(installStart)}; their image is ` +
      `${megabytes(sizeBytes)}, of which Coral itself is ${megabytes(bundleBytes)}`,
  );

  step(`An Image: ${references.length} images on every node`);
  console.log(manifest.trimEnd().replace(/^/gm, "    "));
  await sandbox.kubectl(["create", "namespace", "demo"], { signal });
  await prefetch(sandbox, { signal });

  step(`The same Deployment twice, ${nodeCount} new pods on ${nodeCount} nodes`);
  await sandbox.push(await ensureColdImage({ signal }), coldReference, { signal });
  const [, , prefetched = ""] = references;
  const warm = await secondsToRunning(sandbox, "prefetched", prefetched, { signal });
  const cold = await secondsToRunning(sandbox, "cold", coldReference, { signal });
  const ratio = (cold / warm).toFixed(1);
  console.log(`    image prefetched by Coral   ${warm.toFixed(1).padStart(6)} s to running`);
  console.log(`    image pulled by the kubelet ${cold.toFixed(1).padStart(6)} s to running`);
  say(`${ratio} times as long without prefetching`);

  if (keep) {
    await sandbox.keep();
    step("It stays up. To look around:");
    console.log(`    export KUBECONFIG=${sandbox.kubeconfig}`);
    console.log(`    ${sandbox.programs.file("kubectl")} -n demo get img,nodereports,pods`);
    console.log(`    npm run sandbox -- exec --name ${name} --node node1 -- crictl images`);
    console.log(`    npm run sandbox -- down --name ${name}`);
  }
}

/** Applies the Image and shows how it arrives, until it is Ready. */
async function prefetch(sandbox: Sandbox, { signal }: Scope): Promise<void> {
  await using client = await sandbox.connect();
  await using group = new TaskGroup(signal);
  const common = { client, log: silentLog, clock: systemClock };
  const reports = new Informer({ ...common, resource: nodeReports });
  const wanted = new Informer({ ...common, resource: images, namespace: imageKey.namespace });
  const feeds = [reports, wanted].map((informer) =>
    group.run((scope) => informer.run(scope)).catch(() => {}),
  );
  await Promise.all([reports.synced(group), wanted.synced(group)]);

  const nodes = sandbox.nodes.map(({ name }) => name);
  const progress = new Progress();
  const cell = (node: string, reference: string): Cell =>
    progress.look(node, reports.get({ name: node }), reference);
  const show = process.stdout.isTTY
    ? tableOnTerminal(nodes, cell)
    : plainLines(nodes, cell, progress);
  using _reports = reports.onChange(show);
  const ready = Promise.withResolvers<void>();
  using _wanted = wanted.onChange(({ object }) => {
    if (isReady(object)) ready.resolve();
  });
  const began = performance.now();
  await sandbox.kubectl(["apply", "-f", "-"], { input: manifest, signal });
  show();
  const patience = AbortSignal.any([signal, AbortSignal.timeout(5 * 60_000)]);
  patience.addEventListener("abort", () => ready.reject(patience.reason), { once: true });
  await ready.promise;
  show();
  say(`the Image is Ready on all nodes after ${secondsSince(began)}`);
  await group[Symbol.asyncDispose]();
  await Promise.all(feeds);
}

function isReady({ status }: Image): boolean {
  return (
    status?.conditions?.some(({ type, status: is }) => type === "Ready" && is === "True") ?? false
  );
}

type Look = (node: string, reference: string) => Cell;

/** Draws the table, and draws it again in its place whenever it has changed. */
function tableOnTerminal(nodes: readonly string[], look: Look): () => void {
  let height = 0;
  return () => {
    if (height > 0) process.stdout.write(`\x1b[${height}A`);
    const lines = formatTable(nodes, references, look);
    for (const line of lines) console.log(`    ${line}\x1b[K`);
    height = lines.length;
  };
}

/** Prints a line for each image on a node whose state has changed. */
function plainLines(nodes: readonly string[], look: Look, progress: Progress): () => void {
  const shown = new Map<string, string>();
  return () => {
    for (const node of nodes) {
      for (const reference of references) {
        const key = `${node}  ${shortName(reference).padEnd(18)}`;
        const cell = look(node, reference);
        if (cell.state === "unknown" || shown.get(key) === cell.state) continue;
        shown.set(key, cell.state);
        say(`${progress.seconds.toFixed(1).padStart(5)} s  ${key}  ${formatCell(cell, 0)}`);
      }
    }
  };
}

function step(title: string): void {
  console.log(`\n${styleText("bold", title)}`);
}

function say(line: string): void {
  console.log(`    ${line}`);
}

function secondsSince(start: number): string {
  return `${((performance.now() - start) / 1000).toFixed(1)} s`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 2 : 1)} MB`;
}
