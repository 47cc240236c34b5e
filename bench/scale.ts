import { auditedRequests } from "#sandbox/audit-log.ts";
import { readOptions } from "#bench/scale/options.ts";
import { addImage, fill, restartNodes, rotateSecret, waitForLabels } from "#bench/scale/phases.ts";
import { countRequests, RequestCounts } from "#bench/scale/requests.ts";
import { watchedBytes } from "#bench/scale/watched.ts";
import { World } from "#bench/scale/world.ts";
import { readProcess } from "./processes.ts";
import type { Bench } from "./result.ts";

/** What is measured idle must have settled: reports flushed, leases renewed. */
const settleSeconds = 15;

/**
 * A thousand nodes with a hundred images each: how soon the statuses are right, what Coral asks of the
 * API server for it, and what it holds in memory. Then what it costs when nothing happens, when one
 * image is added, when a tenth of the nodes restart, and when a pull secret changes.
 *
 * The nodes are KWOK's. Their agents are Coral's own code with the identity of their pods, over a
 * container runtime that only waits. The controller runs as it ships, in pods of a real node.
 */
export const scale: Bench = async ({ args, report, signal }) => {
  const options = readOptions(args, process.env);
  const imagesPerNode = options.images * options.tags;
  const nodeImages = options.nodes * imagesPerNode;
  report(`${options.nodes} nodes with ${imagesPerNode} images each`);
  await using world = await World.start(options, { report, signal });
  await world.span("nodes", () => world.addNodes());
  await world.span("agents", () => world.startAgents(world.agentPods()));

  const empty = await cpuSeconds(world);
  const reportBytesBefore = await watchedBytes(world.client, "nodereports", { signal });
  const filled = await world.span("fill", () => fill(world));
  const allReportBytes =
    (await watchedBytes(world.client, "nodereports", { signal })) - reportBytesBefore;
  const full = await cpuSeconds(world);
  const secondsToRightLabels = await world.span("labels", () => waitForLabels(world));
  await world.settle(settleSeconds);

  const atRest = await cpuSeconds(world);
  const [resting] = await world.controllers();
  await world.span("idle", () => world.settle(options.idleSeconds));
  const rested = await cpuSeconds(world);

  const addedImageSeconds = await world.span("added", () => addImage(world));
  await world.settle(settleSeconds);
  const restarted = await world.span("restarted", () => restartNodes(world));
  await world.settle(settleSeconds);
  const rotated = options.rotations === 0 ? undefined : await rotateSecret(world);

  const [peak] = await world.controllers();
  const apiServer = await world.component("kube-apiserver");
  const processes = await Promise.all(world.fleet.pids.map(readProcess));
  const { complaints } = await world.fleet.figures({ signal });
  for (const [message, count] of Object.entries(complaints)) {
    report(`agents complained ${count} times: ${message}`);
  }
  const spans = await countRequests(auditedRequests(world.sandbox.layout.auditLog), world.spans);
  for (const [name, counts] of spans) {
    for (const line of counts.lines()) report(`${name.padEnd(10)}${line}`);
  }
  const requests = (span: string): RequestCounts => spans.get(span) ?? new RequestCounts();
  const toFill = ["agents", "fill", "labels"].map(requests);
  const perMinute = 60 / options.idleSeconds;
  const { planBytes, nodeBytes, reportBytes, reportWrites } = filled.figures;
  return {
    figures: {
      nodes: options.nodes,
      imagesPerNode,
      fillSeconds: filled.seconds,
      secondsToRightLabels,
      reportWritesPerNodeImage: reportWrites / nodeImages,
      planBytesPerNodeImage: planBytes / nodeImages,
      nodeBytesPerNodeImage: nodeBytes / nodeImages,
      reportBytesPerNodeImage: reportBytes / nodeImages,
      controllersReportBytesPerNodeImage: (allReportBytes - reportBytes) / nodeImages,
      refusedRequests: sum(toFill.map(({ refused }) => refused)),
      controllersCpuSecondsToFill: full.controllers - empty.controllers,
      apiServerCpuSecondsToFill: full.apiServer - empty.apiServer,
      agentsCpuSecondsToFill: full.agents - empty.agents,
      controllerRestingMegabytes: resting?.residentMegabytes ?? Infinity,
      apiServerPeakMegabytes: apiServer.peakResidentMegabytes,
      agentsMegabytes: sum(processes.map(({ residentMegabytes }) => residentMegabytes)),
      idleControllersCpuPercent:
        ((rested.controllers - atRest.controllers) / options.idleSeconds) * 100,
      idleAgentsCpuPercent: ((rested.agents - atRest.agents) / options.idleSeconds) * 100,
      idleLeaseRenewalsPerMinute: requests("idle").leases * perMinute,
      addedImageSeconds,
      addedImageWritesPerNode: requests("added").writes / options.nodes,
      restartedNodes: restarted.nodes,
      restartSeconds: restarted.seconds,
      restartWritesPerRestartedNode: requests("restarted").writes / restarted.nodes,
      ...(rotated && {
        rotatedSecretSeconds: rotated.seconds,
        rotatedSecretBytesPerNode: rotated.bytes / options.nodes,
        rotatedSecretWritesPerNode: requests("rotated").writes / options.nodes,
      }),
    },
    checks: [
      {
        name: "seconds-to-right-status",
        value: (filled.rightMs - requests("fill").lastReportMs) / 1_000,
        target: 5,
        better: "lower",
      },
      {
        name: "api-writes-per-node-image",
        value: sum(toFill.map(({ writes }) => writes)) / nodeImages,
        target: 2,
        better: "lower",
      },
      {
        name: "watch-bytes-per-node-image",
        // To all that watch: agents, and controllers, which are sent whole reports.
        value: (planBytes + nodeBytes + allReportBytes) / nodeImages,
        target: 4_096,
        better: "lower",
      },
      {
        name: "controller-rss-mb",
        value: peak?.peakResidentMegabytes ?? Infinity,
        target: 500,
        better: "lower",
      },
      {
        name: "idle-writes-per-minute",
        value: requests("idle").writes * perMinute,
        target: 0,
        better: "lower",
      },
      {
        name: "idle-lists-per-minute",
        value: requests("idle").lists * perMinute,
        target: 0,
        better: "lower",
      },
    ],
  };
};

interface CpuSeconds {
  controllers: number;
  apiServer: number;
  agents: number;
}

/** What everybody has used so far, both replicas of the controller together. */
async function cpuSeconds(world: World): Promise<CpuSeconds> {
  const [controllers, apiServer, agents] = await Promise.all([
    world.controllers(),
    world.component("kube-apiserver"),
    Promise.all(world.fleet.pids.map(readProcess)),
  ]);
  return {
    controllers: total(controllers),
    apiServer: apiServer.cpuSeconds,
    agents: total(agents),
  };
}

function total(processes: readonly { cpuSeconds: number }[]): number {
  return sum(processes.map(({ cpuSeconds: seconds }) => seconds));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
