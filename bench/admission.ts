import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { sendSteadily, quantile, type LoadResult } from "#bench/admission/load.ts";
import { Replica } from "#bench/admission/replica.ts";
import { forcedReviews, freeReviews, podBytes } from "#bench/admission/reviews.ts";
import { AdmissionWorld, size } from "#bench/admission/world.ts";
import { unpackCoral } from "#bench/mirror/coral-program.ts";
import type { JsonObject } from "#json/json.ts";
import { readProcess } from "./processes.ts";
import type { Bench } from "./result.ts";

const perSecond = 300;
const seconds = 20;

/** Until code that runs often has been compiled. */
const warmUpSeconds = 5;

/**
 * What admission costs: one replica of the controller as it ships, over TLS, with 200 Images, 50 policies
 * and 1,000 nodes in its caches, which a fake API server has. It does not lead. At 300 requests a second,
 * for 20 seconds each: pods that policies change, the same pods as they are validated, and pods that no
 * policy selects. They have 10 kB and three images each.
 *
 * Latencies are those of the client, with its own part: both share this machine.
 */
export const admission: Bench = async ({ report, signal }) => {
  await using folder = await mkdtempDisposable(join(tmpdir(), "coral-bench-admission-"));
  const program = await unpackCoral(join(folder.path, "image"), { signal });
  await using world = await AdmissionWorld.start();
  const kubeconfig = join(folder.path, "kubeconfig");
  await writeFile(kubeconfig, world.kubeconfig);
  report("starting a replica");
  await using replica = await Replica.start(program, { folder: folder.path, kubeconfig, signal });
  const [forced, free] = [forcedReviews(), freeReviews()];
  const phases = {
    changed: { path: "/mutate/pods", bodies: forced, isExpected: hasPatch },
    validated: { path: "/validate/pods", bodies: forced, isExpected: isLetIn },
    unselected: { path: "/mutate/pods", bodies: free, isExpected: isLetIn },
  };
  for (const phase of Object.values(phases)) {
    await sendSteadily(replica.host, { ...phase, perSecond, seconds: warmUpSeconds, signal });
  }
  const measured: Record<string, number> = {};
  const results: LoadResult[] = [];
  for (const [name, phase] of Object.entries(phases)) {
    report(`${name}: ${perSecond} requests a second for ${seconds} s`);
    const before = await readProcess(replica.pid);
    const result = await sendSteadily(replica.host, { ...phase, perSecond, seconds, signal });
    const { cpuSeconds } = await readProcess(replica.pid);
    results.push(result);
    measured[`${name}P50Ms`] = quantile(result.latencies, 0.5);
    measured[`${name}P99Ms`] = quantile(result.latencies, 0.99);
    measured[`${name}MaxMs`] = quantile(result.latencies, 1);
    const cpuMs = (cpuSeconds - before.cpuSeconds) * 1_000;
    measured[`${name}CpuMsPerRequest`] = cpuMs / (perSecond * seconds);
  }
  const after = await readProcess(replica.pid);
  const sent = perSecond * seconds * results.length;
  return {
    figures: {
      ...size,
      podBytes,
      requestsPerSecond: perSecond,
      ...measured,
      residentMegabytes: after.residentMegabytes,
      peakResidentMegabytes: after.peakResidentMegabytes,
    },
    checks: [
      {
        name: "p99-ms",
        value: Math.max(...results.map(({ latencies }) => quantile(latencies, 0.99))),
        target: 5,
        better: "lower",
      },
      {
        name: "error-rate",
        value: results.reduce((sum, { errors }) => sum + errors, 0) / sent,
        target: 0,
        better: "lower",
      },
    ],
  };
};

function hasPatch({ allowed, patch }: JsonObject): boolean {
  return allowed === true && typeof patch === "string";
}

function isLetIn({ allowed, patch }: JsonObject): boolean {
  return allowed === true && patch === undefined;
}
