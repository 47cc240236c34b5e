import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";

import { silentLog } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import { MemoryRuntime } from "#test/agent-runtime.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { Inventory } from "./inventory.ts";
import { agentMetrics } from "./metrics.ts";
import { RuntimeWatch } from "./runtime-watch.ts";

const x = "r.io/x:1";

class Bench {
  readonly clock = new ManualClock();
  readonly inventory = new Inventory();
  readonly registry = new Registry();
  readonly watch: RuntimeWatch;
  changes = 0;

  constructor(t: TestContext, runtime: MemoryRuntime) {
    this.watch = new RuntimeWatch({
      runtime,
      inventory: this.inventory,
      clock: this.clock,
      random: () => 0,
      log: silentLog,
      metrics: agentMetrics(this.registry),
      onChange: () => this.changes++,
    });
    const stop = new AbortController();
    const running = this.watch.run(stop.signal);
    t.after(async () => {
      stop.abort(new Error("over"));
      await running;
    });
  }
}

describe("RuntimeWatch", () => {
  test("reads everything at first", async (t) => {
    const bench = new Bench(t, new MemoryRuntime().holding(x));
    await bench.clock.advance(0);

    assert.equal(bench.watch.isConnected, true);
    assert.deepEqual(bench.watch.version, { name: "containerd", version: "v2.4.2" });
    assert.ok(bench.inventory.find(x));
  });

  test("reads everything again after a burst of events, once", async (t) => {
    const runtime = new MemoryRuntime().holding(x, "r.io/y:1", "r.io/z:1");
    const bench = new Bench(t, runtime);
    await bench.clock.advance(0);
    for (const reference of ["r.io/y:1", "r.io/z:1"]) {
      runtime.remove(reference);
      await bench.clock.advance(50);
    }
    await bench.clock.advance(200);

    assert.equal(bench.inventory.find("r.io/z:1"), undefined);
    assert.equal(runtime.lists, 2);
  });

  test("looks again soon after it subscribed, and then seldom", async (t) => {
    const runtime = new MemoryRuntime();
    const bench = new Bench(t, runtime);
    await bench.clock.advance(6_000);
    assert.equal(runtime.lists, 2);

    await bench.clock.advance(600_000);
    assert.equal(runtime.lists, 4);
  });

  test("polls a runtime without events every 30 s", async (t) => {
    const runtime = new MemoryRuntime({ hasEvents: false }).holding(x);
    const bench = new Bench(t, runtime);
    await bench.clock.advance(1_000);
    runtime.remove(x);
    await bench.clock.advance(30_000);
    assert.equal(bench.inventory.find(x), undefined);

    await bench.clock.advance(270_000);
    assert.ok(runtime.lists >= 9 && runtime.lists <= 12, `${runtime.lists} lists`);
  });

  test("says when the runtime is lost, and reads everything when it is back", async (t) => {
    const runtime = new MemoryRuntime().holding(x);
    const bench = new Bench(t, runtime);
    await bench.clock.advance(0);
    const before = bench.changes;
    runtime.lose();
    await bench.clock.advance(60_000);
    assert.equal(bench.watch.isConnected, false);
    assert.ok(bench.changes > before);
    assert.ok(bench.inventory.find(x), "what it had is still what is known");

    runtime.remove(x);
    runtime.comeBack("v2.5.0");
    await bench.clock.advance(10_000);
    assert.equal(bench.watch.isConnected, true);
    assert.equal(bench.watch.version?.version, "v2.5.0");
    assert.equal(bench.inventory.find(x), undefined);
    assert.match(bench.registry.render(), /coral_runtime_reconnects_total 1\n/);
  });

  test("waits for a runtime that is not there yet", async (t) => {
    const runtime = new MemoryRuntime().holding(x);
    runtime.lose();
    const bench = new Bench(t, runtime);
    await bench.clock.advance(60_000);
    assert.equal(bench.watch.version, undefined);

    runtime.comeBack();
    await bench.clock.advance(10_000);
    assert.ok(bench.inventory.find(x));
  });
});
