import { median, type Check } from "#bench/result.ts";
import type { ContestantName } from "./contestants.ts";
import type { RunFigures } from "./measured-run.ts";
import type { Pass, WorkloadName } from "./workload.ts";

/** A contestant's copying of a workload. */
interface Turn {
  readonly contestant: ContestantName;
  readonly workload: WorkloadName;
  readonly pass: Pass;
}

/** What a turn asked of both sides, by method. */
export interface CountedTurn extends Turn {
  readonly upstream: ReadonlyMap<string, number>;
  readonly target: ReadonlyMap<string, number>;
  /** How many manifests and blobs were read from upstream. */
  readonly upstreamContentReads: number;
}

/** What a turn took. */
export interface MeasuredTurn extends Turn, RunFigures {}

/** Makes figures of turns: the medians of times, the most of memory, and the requests. */
export function figuresOf(
  measured: readonly MeasuredTurn[],
  counted: readonly CountedTurn[],
): Record<string, number> {
  const figures: Record<string, number> = {};
  for (const turn of counted) {
    const name = nameOf(turn);
    const turns = measured.filter((other) => nameOf(other) === name);
    if (turns.length === 0) continue;
    figures[`${name}Seconds`] = median(turns.map(({ seconds }) => seconds));
    figures[`${name}CpuSeconds`] = median(turns.map(({ cpuSeconds }) => cpuSeconds));
    figures[`${name}PeakMegabytes`] = peakMegabytesOf(turns);
  }
  for (const turn of counted) {
    for (const side of ["upstream", "target"] as const) {
      for (const [method, count] of turn[side]) {
        figures[`${nameOf(turn)}${titled(side)}${titled(method)}s`] = count;
      }
    }
  }
  return figures;
}

/** Holds Coral's turns against their targets. */
export function checksOf(
  measured: readonly MeasuredTurn[],
  counted: readonly CountedTurn[],
): Check[] {
  const versusCrane = (workload: WorkloadName, pass: Pass): number => {
    const secondsOf = (contestant: ContestantName): number => {
      const name = nameOf({ contestant, workload, pass });
      const turns = measured.filter((turn) => nameOf(turn) === name);
      return median(turns.map(({ seconds }) => seconds));
    };
    return secondsOf("coral") / secondsOf("crane");
  };
  const coral = measured.filter(({ contestant }) => contestant === "coral");
  const unchanged = counted.filter(
    ({ contestant, pass }) => contestant === "coral" && pass === "unchanged",
  );
  const reads = unchanged.reduce((sum, turn) => sum + turn.upstreamContentReads, 0);
  const found = [
    { name: "cold-512mb-vs-crane", value: versusCrane("ten", "cold"), target: 0.9 },
    { name: "cold-1000-tags-vs-crane", value: versusCrane("thousand", "cold"), target: 0.5 },
    {
      name: "unchanged-1000-tags-vs-crane",
      value: versusCrane("thousand", "unchanged"),
      target: 0.15,
    },
    { name: "unchanged-upstream-gets", value: reads, target: 0 },
    { name: "large-layer-vs-crane", value: versusCrane("large", "cold"), target: 1.2 },
    { name: "peak-rss-mb", value: peakMegabytesOf(coral), target: 200 },
  ];
  return found.map((check) => ({ ...check, better: "lower" }));
}

/** Says for people what a turn asked. */
export function formatCounts(turn: CountedTurn): string {
  const sides = (["upstream", "target"] as const).map((side) => {
    const counts = [...turn[side]].map(([method, count]) => `${count} ${method}`);
    return `${side} ${counts.join(", ") || "nothing"}`;
  });
  return `${formatTurn(turn)}: ${sides.join("; ")}`;
}

/** Says for people what a turn took. */
export function formatMeasured(turn: MeasuredTurn): string {
  const { seconds, cpuSeconds, peakMegabytes } = turn;
  const took = `${seconds.toFixed(2)} s, ${cpuSeconds.toFixed(2)} s of CPU`;
  return `${formatTurn(turn)}: ${took}, ${Math.round(peakMegabytes)} MB`;
}

function formatTurn({ contestant, workload, pass }: Turn): string {
  return `${workload} ${pass}, ${contestant}`;
}

function peakMegabytesOf(turns: readonly RunFigures[]): number {
  return Math.max(...turns.map(({ peakMegabytes }) => peakMegabytes));
}

function nameOf({ contestant, workload, pass }: Turn): string {
  return `${contestant}${titled(workload)}${titled(pass)}`;
}

function titled(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1).toLowerCase();
}
