import assert from "node:assert/strict";
import { test } from "node:test";

import { Registry } from "#telemetry/metrics.ts";
import { MirrorCensus, mirrorMetrics } from "./metrics.ts";

test("MirrorCensus counts each Mirror once, until it is gone", () => {
  const registry = new Registry();
  const census = new MirrorCensus(mirrorMetrics(registry).mirrors);
  const counts = (): string[] =>
    [...registry.render().matchAll(/coral_mirrors\{state="(\w+)"\} ([1-9]\d*)/g)].map(
      ([, state, count]) => `${state} ${count}`,
    );
  census.set("a", "progressing");
  census.set("b", "ready");
  census.set("a", "ready");
  census.set("a", "ready");
  assert.deepEqual(counts(), ["ready 2"]);
  census.set("b", undefined);
  census.set("c", "stalled");
  assert.deepEqual(counts(), ["ready 1", "stalled 1"]);
  census.clear();
  assert.deepEqual(counts(), []);
});
