import assert from "node:assert/strict";
import { test } from "node:test";

import { checksOf, figuresOf, type CountedTurn, type MeasuredTurn } from "./figures.ts";

const aTurn = { contestant: "coral", workload: "thousand", pass: "unchanged" } as const;

function measured(turn: Partial<MeasuredTurn> = {}): MeasuredTurn {
  return { ...aTurn, seconds: 1, cpuSeconds: 1, peakMegabytes: 100, ...turn };
}

function counted(turn: Partial<CountedTurn> = {}): CountedTurn {
  const upstream = new Map([["HEAD", 1_000]]);
  return { ...aTurn, upstream, target: new Map(), upstreamContentReads: 0, ...turn };
}

test("figures are medians of times, peaks of memory, and requests of each side and method", () => {
  const turns = [
    measured({ seconds: 3, cpuSeconds: 2, peakMegabytes: 110 }),
    measured({ seconds: 1, cpuSeconds: 1, peakMegabytes: 130 }),
    measured({ seconds: 2, cpuSeconds: 5, peakMegabytes: 120 }),
    measured({ contestant: "crane", seconds: 9 }),
  ];
  assert.deepEqual(figuresOf(turns, [counted()]), {
    coralThousandUnchangedSeconds: 2,
    coralThousandUnchangedCpuSeconds: 2,
    coralThousandUnchangedPeakMegabytes: 130,
    coralThousandUnchangedUpstreamHeads: 1_000,
  });
});

test("Coral's time is held against crane's for the same, and its memory and reads against bounds", () => {
  const turns = (["ten", "thousand", "large"] as const).flatMap((workload) =>
    (["cold", "unchanged"] as const).flatMap((pass) => [
      measured({ workload, pass, seconds: 1, peakMegabytes: workload === "large" ? 150 : 90 }),
      measured({ workload, pass, seconds: 4, peakMegabytes: 900, contestant: "crane" }),
    ]),
  );
  const counts = [
    counted({ upstreamContentReads: 3 }),
    counted({ pass: "cold", upstreamContentReads: 4_000 }),
    counted({ contestant: "crane", upstreamContentReads: 1_000 }),
  ];
  const values = checksOf(turns, counts).map(({ name, value }) => [name, value]);
  assert.deepEqual(values, [
    ["cold-512mb-vs-crane", 0.25],
    ["cold-1000-tags-vs-crane", 0.25],
    ["unchanged-1000-tags-vs-crane", 0.25],
    ["unchanged-upstream-gets", 3],
    ["large-layer-vs-crane", 0.25],
    ["peak-rss-mb", 150],
  ]);
});
