import { randomUUID } from "node:crypto";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Arena } from "#bench/mirror/arena.ts";
import { prepareContestants } from "#bench/mirror/contestants.ts";
import {
  checksOf,
  figuresOf,
  formatCounts,
  formatMeasured,
  type CountedTurn,
  type MeasuredTurn,
} from "#bench/mirror/figures.ts";
import { rounds } from "#bench/mirror/workload.ts";
import { ensurePrograms } from "#sandbox/toolchain/build.ts";
import type { Bench } from "./result.ts";

/**
 * Copies repositories from one registry to another: Coral as it ships, `crane cp --all-tags` and
 * `regsync once`, in turn, on the same machine in the same state. The registries are CNCF distribution
 * on loopback, with up to 7 GB of storage in the temporary folder.
 *
 * Requests are counted in a round of its own, which is not measured.
 */
export const mirror: Bench = async ({ report, signal }) => {
  await using folder = await mkdtempDisposable(join(tmpdir(), "coral-bench-mirror-"));
  const programs = await ensurePrograms({ report, optional: ["regsync"], signal });
  const contestants = await prepareContestants(folder.path, programs, { signal });
  const env = { HOME: folder.path, PATH: programs.path };
  await using arena = await Arena.start({ contestants, env, signal });
  const measured: MeasuredTurn[] = [];
  const counted: CountedTurn[] = [];
  for (const { workload, times } of rounds) {
    report(`${workload}: filling the source`);
    await arena.fill(workload, randomUUID());
    for await (const turn of arena.count(workload)) {
      report(formatCounts(turn));
      counted.push(turn);
    }
    for (let round = 1; round <= times; round++) {
      for await (const turn of arena.measure(workload)) {
        report(`round ${round}: ${formatMeasured(turn)}`);
        measured.push(turn);
      }
    }
  }
  return { figures: figuresOf(measured, counted), checks: checksOf(measured, counted) };
};
