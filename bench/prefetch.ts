import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

import { readAuditLog, type AuditedRequest } from "#sandbox/audit-log.ts";
import { installCoral } from "#sandbox/install-coral.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import type { SandboxNode } from "#sandbox/sandbox-node.ts";
import { median, type Bench } from "./result.ts";
import { emptyStore, secondsToReady } from "./time-to-ready.ts";

type Scope = { signal: AbortSignal };

const rounds = 7;
/** What is measured idle must have settled: leases renewed, reports flushed. */
const settleMs = 15_000;
const idleMs = 120_000;
const image = Sandbox.images.large;
const key = { namespace: "bench", name: "large" };

/**
 * One image of 66 MB on one node: from the moment before the Image is created until its status says
 * Ready, against `crictl pull` of the same image, in turn, each from an empty store. Then what Coral
 * costs when nothing happens.
 */
export const prefetch: Bench = async ({ report, signal }) => {
  await using sandbox = await Sandbox.start({ nodes: 1, report, signal });
  const node = sandbox.node("node1");
  const coral = await installCoral(sandbox, { signal });
  await sandbox.kubectl(["create", "namespace", key.namespace], { signal });
  await using client = await sandbox.connect();
  const pulls: number[] = [];
  const readies: number[] = [];
  for (let round = 1; round <= rounds; round++) {
    pulls.push(await secondsToPull(node, { signal }));
    readies.push(await secondsToReady(client, node, { reference: image, key, signal }));
    report(
      `round ${round}: crictl ${pulls.at(-1)?.toFixed(2)} s, Ready ${readies.at(-1)?.toFixed(2)} s`,
    );
  }
  report(`idle for ${(settleMs + idleMs) / 1000} s`);
  const idle = await idleRequests(sandbox, { signal });
  const renewals = idle.filter(({ resource }) => resource === "leases").length;
  const perMinute = 60_000 / idleMs;
  for (const { user, verb, resource } of idle) {
    if (resource !== "leases") report(`idle request: ${user} ${verb} ${resource}`);
  }
  const crictlPullSeconds = median(pulls);
  const readySeconds = median(readies);
  return {
    figures: {
      rounds,
      crictlPullSeconds,
      readySeconds,
      coralImageMegabytes: coral.sizeBytes / 1e6,
      bundleMegabytes: coral.bundleBytes / 1e6,
      leaseRenewalsPerMinute: renewals * perMinute,
    },
    checks: [
      {
        name: "ready-vs-crictl",
        value: readySeconds / crictlPullSeconds,
        target: 1.15,
        better: "lower",
      },
      { name: "agent-rss-mb", value: await agentResidentMegabytes(), target: 70, better: "lower" },
      {
        name: "idle-api-requests-per-minute",
        value: (idle.length - renewals) * perMinute,
        target: 1,
        better: "lower",
      },
    ],
  };

  /** Resident memory of the agent's process after all of the above. */
  async function agentResidentMegabytes(): Promise<number> {
    const pod = ["pods", "--name", "agent", "-q"];
    const sandboxId = (await node.crictl(pod, { signal })).stdout.trim();
    const container = (await node.crictl(["ps", "-p", sandboxId, "-q"], { signal })).stdout.trim();
    const inspect = ["inspect", "-o", "go-template", "--template", "{{.info.pid}}", container];
    const pid = (await node.crictl(inspect, { signal })).stdout.trim();
    const status = await readFile(`/proc/${pid}/status`, "utf8");
    const kibibytes = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
    if (kibibytes === undefined) throw new Error(`Process ${pid} has no resident memory`);
    return (Number(kibibytes) * 1024) / 1e6;
  }
};

async function secondsToPull(node: SandboxNode, { signal }: Scope): Promise<number> {
  await emptyStore(node, image, { signal });
  const start = performance.now();
  await node.crictl(["pull", image], { signal });
  const seconds = (performance.now() - start) / 1000;
  await emptyStore(node, image, { signal });
  return seconds;
}

async function idleRequests(sandbox: Sandbox, { signal }: Scope): Promise<AuditedRequest[]> {
  await sleep(settleMs, undefined, { signal });
  const start = Date.now();
  await sleep(idleMs, undefined, { signal });
  const requests = await readAuditLog(sandbox.layout.auditLog);
  return requests.filter(({ time }) => time >= start && time < start + idleMs);
}
