import { writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

import { ensureSmallVariant } from "#sandbox/images/fixture-images.ts";
import { installCoral } from "#sandbox/install-coral.ts";
import { openRegistry } from "#sandbox/registry-hosts.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import { Cluster } from "#test/cluster.ts";
import { containerPids, readProcess } from "./processes.ts";
import type { Bench } from "./result.ts";

/** What is measured idle must have settled: started in full, its report written. */
const settleMs = 30_000;
const idleMs = 120_000;

/** Images that are pulled, of one layer each and none in common. */
const pulled = 10;
const firstVariant = 20;

/**
 * What the agent costs its node, as it ships: memory and processor time while nothing happens, and
 * while it pulls ten images.
 */
export const agent: Bench = async ({ report, signal }) => {
  await using sandbox = await Sandbox.start({ nodes: 1, report, signal });
  const node = sandbox.node("node1");
  const references = await Promise.all(
    Array.from({ length: pulled }, async (_, index) => {
      const folder = await ensureSmallVariant(firstVariant + index, sandbox.programs, { signal });
      const reference = `${openRegistry.host}/bench/small:${index}`;
      await sandbox.push(folder, reference, { signal });
      return reference;
    }),
  );
  await installCoral(sandbox, { signal });
  await using client = await sandbox.connect();
  const cluster = new Cluster(sandbox, client);
  const [pid] = await containerPids(node, "agent", { signal });
  if (pid === undefined) throw new Error("The agent does not run");

  report(`idle for ${(settleMs + idleMs) / 1_000} s`);
  await sleep(settleMs, undefined, { signal });
  const before = await readProcess(pid);
  await sleep(idleMs, undefined, { signal });
  const idle = await readProcess(pid);

  report(`pulling ${pulled} images`);
  await resetPeak(pid);
  const start = performance.now();
  await cluster.want("ten", references, { signal });
  await cluster.ready("ten", 1, { signal });
  const pullSeconds = (performance.now() - start) / 1_000;
  const busy = await readProcess(pid);
  const idleCpuSeconds = idle.cpuSeconds - before.cpuSeconds;
  return {
    figures: {
      idleProportionalMegabytes: idle.proportionalMegabytes,
      startCpuSeconds: before.cpuSeconds,
      pulledImages: pulled,
      pullSeconds,
      pullCpuSeconds: busy.cpuSeconds - idle.cpuSeconds,
      pullPeakMegabytes: busy.peakResidentMegabytes,
      pulledProportionalMegabytes: busy.proportionalMegabytes,
    },
    checks: [
      { name: "agent-rss-mb", value: idle.residentMegabytes, target: 70, better: "lower" },
      {
        name: "agent-idle-cpu-percent",
        value: (idleCpuSeconds / (idleMs / 1_000)) * 100,
        target: 0.1,
        better: "lower",
      },
    ],
  };
};

/** Lets the kernel look for the most resident memory anew (proc(5), clear_refs). */
async function resetPeak(pid: number): Promise<void> {
  await writeFile(`/proc/${pid}/clear_refs`, "5");
}
