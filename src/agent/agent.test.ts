import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { MemoryRuntime } from "#test/agent-runtime.ts";
import { AgentWorld, aNode, aPlan, MemoryReports } from "#test/agent-world.ts";

const x = "r.io/x:1";
const y = "r.io/y:1";
const z = "r.io/z:1";

describe("an agent", () => {
  test("pulls what a plan asks for, and reports it at once", async () => {
    await using world = await AgentWorld.start({ plans: [aPlan("a/one", [x, y])] });

    assert.deepEqual(world.runtime.pulls, [x, y]);
    assert.equal(world.reported(x)?.state, "available");
    assert.match(world.reported(x)?.digest ?? "", /^sha256:/);
    assert.equal(world.reported(x)?.sizeBytes, 1_000);
    assert.equal(world.agent.problem(), undefined);
  });

  test("pulls nothing that is there already", async () => {
    const runtime = new MemoryRuntime().holding(x);
    await using world = await AgentWorld.start({ runtime, plans: [aPlan("a/one", [x])] });

    assert.deepEqual(runtime.pulls, []);
    assert.equal(world.reported(x)?.state, "available");
  });

  test("takes an image by digest for available, and pulls it once", async () => {
    const byDigest = `r.io/x@sha256:${"a".repeat(64)}`;
    const both = `r.io/y:1@sha256:${"b".repeat(64)}`;
    await using world = await AgentWorld.start({ plans: [aPlan("a/one", [byDigest, both])] });
    await world.clock.advance(60_000);

    assert.deepEqual(world.runtime.pulls, [byDigest, both]);
    assert.equal(world.reported(byDigest)?.state, "available");
    assert.equal(world.reported(both)?.state, "available");
  });

  test("costs the API server nothing while nothing changes", async () => {
    await using world = await AgentWorld.start({ plans: [aPlan("a/one", [x, y])] });
    await world.clock.advance(10_000);
    const writes = world.reports.written.length;
    for (let minute = 0; minute < 120; minute++) {
      world.nodes.put(aNode()); // The kubelet's sign of life.
      await world.clock.advance(60_000);
    }

    assert.equal(world.reports.written.length, writes);
  });

  test("costs the API server nothing for an image that fails for ever", async () => {
    const runtime = new MemoryRuntime().fail(x, "IMAGE_NOT_FOUND");
    await using world = await AgentWorld.start({ runtime, plans: [aPlan("a/one", [x])] });
    await world.clock.advance(3_600_000);
    const writes = world.reports.written.length;
    await world.clock.advance(24 * 3_600_000);

    assert.ok(runtime.pulls.length > 100);
    assert.equal(world.reports.written.length, writes);
  });

  test("takes up what a plan adds and drops, and what a label selects", async () => {
    const gpu = aPlan("a/gpu", [z], { selector: [{ key: "gpu", operator: "Exists" }] });
    await using world = await AgentWorld.start({ plans: [aPlan("a/one", [x]), gpu] });
    world.plans.put(aPlan("a/one", [y], { generation: 2 }));
    world.nodes.put(aNode({ labels: { gpu: "yes" } }));
    await world.clock.advance(2_000);
    assert.equal(world.reported(x), undefined);
    assert.equal(world.reported(y)?.state, "available");
    assert.equal(world.reported(z)?.state, "available");

    world.plans.remove("a/one");
    world.nodes.put(aNode());
    await world.clock.advance(4_000);
    assert.deepEqual(world.reports.report?.status?.images, []);
  });

  test("aborts the pull of an image that is no longer owed", async () => {
    const runtime = new MemoryRuntime().hold(x);
    await using world = await AgentWorld.start({ runtime, plans: [aPlan("a/one", [x])] });
    assert.deepEqual(runtime.running, [x]);
    world.plans.remove("a/one");
    await world.settle();

    assert.deepEqual(runtime.running, []);
  });

  test("lets no image wait for another that fails or hangs", async () => {
    const runtime = new MemoryRuntime().fail(x, "IMAGE_NOT_FOUND").hold(y);
    await using world = await AgentWorld.start({ runtime, plans: [aPlan("a/one", [x, y, z])] });

    assert.equal(world.reported(z)?.state, "available");
    assert.equal(world.reported(y)?.state, "pending");
  });

  test("lets no object of one namespace concern another's", async () => {
    const plans = [
      aPlan("bad/selector", [x], { selector: [{ key: "k", operator: "In" }] }),
      aPlan("bad/name", ["UPPER:1"]),
      aPlan("good/one", [y]),
    ];
    await using world = await AgentWorld.start({ plans });

    assert.deepEqual(
      world.reports.report?.status?.images.map(({ reference, state }) => [reference, state]),
      [[y, "available"]],
    );
  });
});

describe("a pull that fails", () => {
  test("is tried again with backoff, and is an error after the threshold", async () => {
    const runtime = new MemoryRuntime().fail(x, "PULL_DENIED");
    await using world = await AgentWorld.start({ runtime, plans: [aPlan("a/one", [x])] });
    await world.clock.advance(10_000);
    assert.equal(runtime.pulls.length, 2);
    assert.equal(world.reported(x)?.state, "pending");

    await world.clock.advance(20_000);
    assert.equal(runtime.pulls.length, 3);
    await world.clock.advance(2_000); // News of failures waits for company.
    const { state, reason, message, attempts } = world.reported(x) ?? {};
    assert.deepEqual(
      { state, reason, message, attempts },
      {
        state: "error",
        reason: "Denied",
        message: "because of PULL_DENIED",
        attempts: 3,
      },
    );
  });

  test("is available as soon as a retry succeeds", async () => {
    const runtime = new MemoryRuntime().fail(x, "IMAGE_NOT_FOUND");
    await using world = await AgentWorld.start({ runtime, plans: [aPlan("a/one", [x])] });
    await world.clock.advance(60_000);
    assert.equal(world.reported(x)?.state, "error");
    runtime.succeed(x);
    await world.clock.advance(60_000);

    const { state, reason, attempts } = world.reported(x) ?? {};
    assert.deepEqual([state, reason, attempts], ["available", undefined, undefined]);
  });

  test("is tried again at once when a plan that names it changes, and only then", async () => {
    const runtime = new MemoryRuntime().fail(x, "PULL_DENIED");
    await using world = await AgentWorld.start({ runtime, plans: [aPlan("a/one", [x])] });
    await world.clock.advance(60_000);
    const pulls = runtime.pulls.length;
    world.plans.put(aPlan("b/other", [y]));
    await world.settle();
    assert.equal(runtime.pulls.filter((reference) => reference === x).length, pulls);

    runtime.succeed(x);
    world.plans.put(aPlan("a/one", [x], { generation: 2 }));
    await world.settle();
    assert.equal(world.reported(x)?.state, "available");
  });

  test("counts for nothing if the plan changed while it ran", async () => {
    const runtime = new MemoryRuntime().fail(x, "PULL_DENIED").hold(x);
    await using world = await AgentWorld.start({ runtime, plans: [aPlan("a/one", [x])] });
    world.plans.put(aPlan("a/one", [x], { generation: 2 }));
    await world.settle();
    assert.deepEqual(runtime.pulls, [x], "one pull at a time");
    runtime.release(x);
    await world.clock.advance(2_000);

    assert.deepEqual(runtime.pulls, [x, x]);
    assert.equal(world.reported(x)?.attempts, 1);
  });

  test("is not held against the image if the runtime was away", async () => {
    const runtime = new MemoryRuntime().hold(x);
    await using world = await AgentWorld.start({ runtime, plans: [aPlan("a/one", [x])] });
    runtime.lose();
    runtime.release(x);
    await world.clock.advance(60_000);
    assert.equal(world.reported(x)?.attempts, undefined);
    assert.equal(world.agent.problem(), "the container runtime is lost");

    runtime.comeBack();
    await world.clock.advance(20_000);
    assert.equal(world.reported(x)?.state, "available");
    assert.equal(world.agent.problem(), undefined);
  });
});

describe("an image that is removed from the node", () => {
  test("is back within a minute", async () => {
    await using world = await AgentWorld.start({ plans: [aPlan("a/one", [x])] });
    world.runtime.remove(x);
    await world.clock.advance(3_000);
    assert.equal(world.reported(x)?.state, "pending");
    assert.equal(world.reported(x)?.reason, "Removed");

    await world.clock.advance(3_000);
    assert.equal(world.reported(x)?.state, "available");
  });

  test("is back within a minute where the runtime has no events", async () => {
    const runtime = new MemoryRuntime({ hasEvents: false });
    await using world = await AgentWorld.start({ runtime, plans: [aPlan("a/one", [x])] });
    await world.clock.advance(1_000);
    runtime.remove(x);
    await world.clock.advance(60_000);

    assert.equal(runtime.pulls.length, 2);
    assert.equal(world.reported(x)?.state, "available");
  });

  test("is pulled less and less often if it is removed again and again", async () => {
    await using world = await AgentWorld.start({ plans: [aPlan("a/one", [x])] });
    for (let second = 0; second < 3_600; second++) {
      world.runtime.remove(x);
      await world.clock.advance(1_000);
    }

    assert.ok(world.runtime.pulls.length < 20, `${world.runtime.pulls.length} pulls`);
  });
});

describe("a node under pressure", () => {
  test("begins no pull, says why, and goes on with one that runs", async () => {
    const runtime = new MemoryRuntime().hold(x);
    const settings = { pullConcurrency: 1 };
    const plans = [aPlan("a/one", [x, y])];
    await using world = await AgentWorld.start({ runtime, settings, plans });
    world.nodes.put(aNode({ conditions: { DiskPressure: "True" } }));
    await world.settle();
    runtime.release(x);
    await world.clock.advance(10_000);
    assert.deepEqual(runtime.pulls, [x]);
    assert.equal(world.reported(x)?.state, "available");
    assert.equal(world.reported(y)?.reason, "DiskPressure");

    world.nodes.put(aNode());
    await world.settle();
    assert.equal(world.reported(y)?.state, "available");
  });
});

describe("an agent that starts again", () => {
  test("writes nothing if nothing has changed", async () => {
    const runtime = new MemoryRuntime();
    const reports = new MemoryReports();
    const plans = [aPlan("a/one", [x])];
    const first = await AgentWorld.start({ runtime, reports, plans });
    await first[Symbol.asyncDispose]();
    const writes = reports.written.length;
    await using world = await AgentWorld.start({ runtime, reports, plans });
    await world.clock.advance(60_000);

    assert.equal(reports.written.length, writes);
    assert.equal(world.agent.problem(), undefined);
    assert.deepEqual(runtime.pulls, [x]);
  });

  test("remembers an error, since when it is, and its backoff", async () => {
    const runtime = new MemoryRuntime().fail(x, "IMAGE_NOT_FOUND");
    const reports = new MemoryReports();
    const plans = [aPlan("a/one", [x])];
    const first = await AgentWorld.start({ runtime, reports, plans });
    await first.clock.advance(60_000);
    const before = first.reported(x);
    await first[Symbol.asyncDispose]();
    const pulls = runtime.pulls.length;
    await using world = await AgentWorld.start({ runtime, reports, plans, clock: first.clock });
    assert.equal(runtime.pulls.length, pulls);
    await world.clock.advance(60_000);

    assert.equal(runtime.pulls.length, pulls + 1);
    assert.equal(before?.state, "error");
    assert.deepEqual(world.reported(x), before);
  });

  test("finishes what a killed one had begun", async () => {
    const runtime = new MemoryRuntime().hold(x);
    const reports = new MemoryReports();
    const plans = [aPlan("a/one", [x])];
    const first = await AgentWorld.start({ runtime, reports, plans });
    await first[Symbol.asyncDispose]();
    assert.deepEqual(runtime.running, []);
    runtime.release(x);
    await using world = await AgentWorld.start({ runtime, reports, plans });

    assert.equal(world.reported(x)?.state, "available");
  });
});

describe("the API server away", () => {
  test("does not stop pulls, and the report is right within 15 s of its return", async () => {
    await using world = await AgentWorld.start({ plans: [aPlan("a/one", [x])] });
    await world.clock.advance(10_000);
    world.reports.fail();
    world.plans.put(aPlan("a/one", [x, y], { generation: 2 }));
    await world.clock.advance(300_000);
    assert.deepEqual(world.runtime.pulls, [x, y]);
    world.reports.recover();
    await world.clock.advance(15_000);

    assert.equal(world.reported(y)?.state, "available");
  });
});

describe("a hundred images", () => {
  test("cost at most two writes each, whatever the pace", async () => {
    const references = Array.from({ length: 100 }, (_, index) => `r.io/image:${index}`);
    await using world = await AgentWorld.start({ plans: [aPlan("a/many", references)] });
    await world.clock.advance(60_000);

    assert.equal(world.reports.report?.status?.images.length, 100);
    assert.ok(world.reports.written.length <= 5, `${world.reports.written.length} writes`);
  });
});

describe("stopping", () => {
  test("aborts pulls, writes what is left and ends", async () => {
    const runtime = new MemoryRuntime().hold(x).hold(y);
    const world = await AgentWorld.start({ runtime, plans: [aPlan("a/one", [x])] });
    world.plans.put(aPlan("a/two", [y]));
    await world.settle();
    assert.deepEqual(runtime.running, [x, y]);
    assert.equal(world.reported(y), undefined);
    await world[Symbol.asyncDispose]();

    assert.deepEqual(runtime.running, []);
    assert.equal(world.reported(y)?.state, "pending");
  });
});
