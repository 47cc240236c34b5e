import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Registry } from "./metrics.ts";

describe("Registry", () => {
  test("starts each declared label value at 0 and counts from there", () => {
    const registry = new Registry();
    const pulls = registry.counter({
      name: "coral_pulls_total",
      help: "Images pulled.",
      labels: { result: ["ok", "error"] },
    });
    pulls.inc({ result: "ok" });
    pulls.inc({ result: "ok" }, 2);

    assert.equal(
      registry.render(),
      `# HELP coral_pulls_total Images pulled.
# TYPE coral_pulls_total counter
coral_pulls_total{result="ok"} 3
coral_pulls_total{result="error"} 0
`,
    );
  });

  test("has a series for each combination of two labels", () => {
    const registry = new Registry();
    registry.gauge({ name: "coral_x", help: "X.", labels: { a: ["1", "2"], b: ["3", "4"] } });

    assert.equal(registry.render().match(/^coral_x\{/gm)?.length, 4);
  });

  test("renders a gauge without labels", () => {
    const registry = new Registry();
    const depth = registry.gauge({ name: "coral_depth", help: "Depth." });
    depth.set({}, 5);
    depth.add({}, -1.5);

    assert.match(registry.render(), /^coral_depth 3.5$/m);
  });

  test("renders cumulative buckets, the sum and the count", () => {
    const registry = new Registry();
    const seconds = registry.histogram({
      name: "coral_seconds",
      help: "S.",
      labels: { w: ["a"] },
      buckets: [0.1, 1],
    });
    for (const value of [0.05, 0.1, 0.5, 3]) seconds.observe({ w: "a" }, value);

    assert.equal(
      registry.render(),
      `# HELP coral_seconds S.
# TYPE coral_seconds histogram
coral_seconds_bucket{w="a",le="0.1"} 2
coral_seconds_bucket{w="a",le="1"} 3
coral_seconds_bucket{w="a",le="+Inf"} 4
coral_seconds_sum{w="a"} 3.65
coral_seconds_count{w="a"} 4
`,
    );
  });

  test("refuses a label value that was not declared", () => {
    const registry = new Registry();
    const labels: Record<string, string[]> = { result: ["ok"] };
    const pulls = registry.counter({ name: "coral_pulls_total", help: "P.", labels });

    assert.throws(() => pulls.inc({ result: "surprise" }), /no labels \{result="surprise"\}/);
    assert.throws(() => pulls.inc({}), RangeError);
  });

  test("adds label values when a metric is declared again", () => {
    const registry = new Registry();
    const options = { name: "coral_depth", help: "Depth." };
    registry.gauge({ ...options, labels: { queue: ["a"] } }).set({ queue: "a" }, 1);
    registry.gauge({ ...options, labels: { queue: ["b"] } }).set({ queue: "b" }, 2);

    assert.match(registry.render(), /queue="a"\} 1\ncoral_depth\{queue="b"\} 2/);
  });

  test("refuses one name for two metrics", () => {
    const registry = new Registry();
    registry.gauge({ name: "coral_x_total", help: "X." });

    assert.throws(() => registry.counter({ name: "coral_x_total", help: "X." }), TypeError);
    assert.throws(() => registry.gauge({ name: "coral_x_total", help: "Other." }), TypeError);
  });

  test("refuses a counter that would shrink, and one not called a total", () => {
    const registry = new Registry();
    const count = registry.counter({ name: "coral_x_total", help: "X." });

    assert.throws(() => count.inc({}, -1), RangeError);
    assert.throws(() => count.inc({}, NaN), RangeError);
    assert.throws(() => registry.counter({ name: "coral_x", help: "X." }), TypeError);
  });

  test("escapes help and label values", () => {
    const registry = new Registry();
    registry.gauge({ name: "coral_x", help: "a\\b\nc", labels: { l: ['"\\\n'] } });

    assert.match(registry.render(), /^# HELP coral_x a\\\\b\\nc$/m);
    assert.match(registry.render(), /^coral_x\{l="\\"\\\\\\n"\} 0$/m);
  });
});
