import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { silentLog } from "#telemetry/log.ts";
import { MemoryRuntime } from "#test/agent-runtime.ts";
import { AgentWorld, aPlan, MemoryReports } from "#test/agent-world.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { LoginsUnavailableError } from "./logins.ts";
import { StallWatch } from "./stall-watch.ts";

const x = "r.io/x:1";
const y = "q.io/y:1";

describe("an image that lacks something", () => {
  test("waits for a slot without holding a place, and others go on", async () => {
    let retryAfterMs: number | undefined = 5_000;
    const lost = new AbortController().signal;
    const slots = {
      acquire: async () =>
        retryAfterMs === undefined ? { lost, async [Symbol.asyncDispose]() {} } : { retryAfterMs },
    };
    const plans = [aPlan("a/bounded", [x], { maxConcurrentNodes: 1 }), aPlan("a/free", [y])];
    const settings = { pullConcurrency: 1 };
    await using world = await AgentWorld.start({ plans, settings, deps: { slots } });
    await world.clock.advance(4_000);
    assert.deepEqual(world.runtime.pulls, [y]);
    assert.equal(world.reported(x)?.state, "pending");
    assert.equal(world.reported(x)?.reason, "WaitingForSlot");

    retryAfterMs = undefined;
    await world.clock.advance(10_000);
    assert.equal(world.reported(x)?.state, "available");
    assert.equal(world.reported(x)?.reason, undefined);
  });

  test("costs the API server nothing while it waits for a slot or for space", async () => {
    const slots = { acquire: async () => ({ retryAfterMs: 1_000 }) };
    const sizes = [{ platform: "linux/amd64", sizeBytes: 1_000 }];
    const plans = [
      aPlan("a/bounded", [x], { maxConcurrentNodes: 1 }),
      aPlan("a/large", [], { images: [{ reference: y, sizes }] }),
    ];
    let freeBytes = 900;
    const disk = {
      policy: { expansion: 3, reservePercent: 15 },
      source: { space: async () => ({ freeBytes: --freeBytes, totalBytes: 1_000 }) },
    };
    await using world = await AgentWorld.start({ plans, deps: { slots, disk } });
    await world.clock.advance(10_000);
    const writes = world.reports.written.length;
    await world.clock.advance(600_000);

    assert.equal(world.reports.written.length, writes);
    assert.equal(world.reported(y)?.reason, "InsufficientDisk");
    assert.ok(900 - freeBytes <= 21, `${900 - freeBytes} looks at the disk in ten minutes`);
  });

  test("is pulled when there is room again", async () => {
    const sizes = [{ platform: "linux/amd64", sizeBytes: 100 }];
    let freeBytes = 0;
    const disk = {
      policy: { expansion: 3, reservePercent: 15 },
      source: { space: async () => ({ freeBytes, totalBytes: 1_000 }) },
    };
    const plans = [aPlan("a/large", [], { images: [{ reference: x, sizes }] })];
    await using world = await AgentWorld.start({ plans, deps: { disk } });
    await world.clock.advance(120_000);
    assert.deepEqual(world.runtime.pulls, []);
    freeBytes = 900;
    await world.clock.advance(60_000);

    assert.equal(world.reported(x)?.state, "available");
  });

  test("is no error for want of a controller, and available soon after it is back", async () => {
    let isAway = true;
    const logins = {
      async loginsFor() {
        if (isAway) throw new LoginsUnavailableError("away", { retryable: true });
        return [{ serverAddress: "r.io", username: "u", password: "p" }];
      },
    };
    const runtime = new MemoryRuntime().guard(x, "u");
    const plans = [aPlan("a/private", [x], { pullSecretsRevision: "1" })];
    await using world = await AgentWorld.start({ runtime, plans, deps: { logins } });
    await world.clock.advance(600_000);
    assert.deepEqual(
      [world.reported(x)?.state, world.reported(x)?.reason, world.reported(x)?.attempts],
      ["pending", "NoCredentials", undefined],
    );
    isAway = false;
    await world.clock.advance(60_000);

    assert.equal(world.reported(x)?.state, "available");
  });

  test("is tried at once when a secret has changed", async () => {
    let password = "wrong";
    const runtime = new MemoryRuntime().guard(x, "right");
    const logins = {
      loginsFor: async () => [{ serverAddress: "r.io", username: password, password }],
    };
    const plans = [aPlan("a/private", [x], { pullSecretsRevision: "1" })];
    await using world = await AgentWorld.start({ runtime, plans, deps: { logins } });
    await world.clock.advance(120_000);
    assert.deepEqual([world.reported(x)?.state, world.reported(x)?.reason], ["error", "Denied"]);
    password = "right";
    world.plans.put(aPlan("a/private", [x], { pullSecretsRevision: "2" }));
    await world.settle();

    assert.equal(world.reported(x)?.state, "available");
  });

  test("goes on waiting after a restart, without a word of it", async () => {
    const slots = { acquire: async () => ({ retryAfterMs: 1_000 }) };
    const plans = [aPlan("a/bounded", [x], { maxConcurrentNodes: 1 })];
    const reports = new MemoryReports();
    const first = await AgentWorld.start({ plans, reports, deps: { slots } });
    await first.clock.advance(10_000);
    await first[Symbol.asyncDispose]();
    const writes = reports.written.length;
    await using world = await AgentWorld.start({ plans, reports, deps: { slots } });
    await world.clock.advance(10_000);

    assert.equal(world.reported(x)?.reason, "WaitingForSlot");
    assert.equal(reports.written.length, writes);
  });
});

describe("a pull that gets nothing", () => {
  test("is given up as Stalled, and tried again", async () => {
    const clock = new ManualClock();
    const transfers = { ingests: async () => [], readBlob: async () => undefined };
    const monotonicMs = (): number => clock.now().getTime();
    const options = { transfers, timeoutMs: 60_000, clock, monotonicMs, log: silentLog };
    const stalls = new StallWatch(options);
    const runtime = new MemoryRuntime().hold(x);
    const plans = [aPlan("a/one", [x, y])];
    await using world = await AgentWorld.start({ clock, runtime, plans, deps: { stalls } });
    await world.clock.advance(65_000);
    assert.equal(world.reported(y)?.state, "available");
    const { state, reason, message, attempts } = world.reported(x) ?? {};
    assert.deepEqual(
      [state, reason, message, attempts],
      ["pending", "Stalled", "nothing came for 60 s", 1],
    );
    runtime.release(x);
    await world.clock.advance(10_000);

    assert.equal(world.reported(x)?.state, "available");
  });
});
