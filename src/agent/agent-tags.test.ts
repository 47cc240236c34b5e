import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { ImagePlan, ImagePlanSpec } from "#api/v1/image-plan.ts";
import { MemoryRuntime } from "#test/agent-runtime.ts";
import { AgentWorld, aPlan, MemoryReports } from "#test/agent-world.ts";

const x = "r.io/x:1";
const a = `sha256:${"a".repeat(64)}`;
const b = `sha256:${"b".repeat(64)}`;

function planOf(digest: string, more: Partial<ImagePlanSpec> = {}): ImagePlan {
  return aPlan("a/one", [], { images: [{ reference: x, digest }], ...more });
}

const always = { imagePullPolicy: "Always" } as const;

describe("an image whose tag has moved", () => {
  test("is available, and says so until the controller has looked again", async () => {
    const runtime = new MemoryRuntime().serve(x, b);
    await using world = await AgentWorld.start({ runtime, plans: [planOf(a)] });
    const { state, reason, digest } = world.reported(x) ?? {};
    assert.deepEqual([state, reason, digest], ["available", "TagMoved", b]);
    assert.deepEqual(runtime.pulls, [x]);

    world.plans.put(planOf(b));
    await world.clock.advance(2_000);
    assert.equal(world.reported(x)?.reason, undefined);
    await world.clock.advance(3_600_000);
    assert.deepEqual(runtime.pulls, [x]);
  });

  test("is pulled again if it follows its tag, and pending until then", async () => {
    const runtime = new MemoryRuntime().serve(x, a);
    await using world = await AgentWorld.start({ runtime, plans: [planOf(a, always)] });
    assert.equal(world.reported(x)?.digest, a);
    runtime.serve(x, b).hold(x);
    world.plans.put(planOf(b, always));
    await world.clock.advance(2_000);
    assert.deepEqual(
      [world.reported(x)?.state, world.reported(x)?.reason],
      ["pending", "TagMoved"],
    );
    runtime.release(x);
    await world.clock.advance(0);

    const { state, reason, digest } = world.reported(x) ?? {};
    assert.deepEqual([state, reason, digest], ["available", undefined, b]);
    await world.clock.advance(3_600_000);
    assert.deepEqual(runtime.pulls, [x, x]);
  });

  test("is pulled seldom if the registry gives another digest for good, and written of once", async () => {
    const runtime = new MemoryRuntime().serve(x, b);
    await using world = await AgentWorld.start({ runtime, plans: [planOf(a, always)] });
    assert.deepEqual(
      [world.reported(x)?.state, world.reported(x)?.reason, world.reported(x)?.digest],
      ["available", "TagMoved", b],
    );
    const writes = world.reports.written.length;
    await world.clock.advance(3_600_000);

    assert.ok(runtime.pulls.length <= 15, `${runtime.pulls.length} pulls in an hour`);
    assert.equal(world.reports.written.length, writes);
  });

  test("is an error if pulling it again fails for good", async () => {
    const runtime = new MemoryRuntime().serve(x, a);
    await using world = await AgentWorld.start({ runtime, plans: [planOf(a, always)] });
    runtime.fail(x, "PULL_DENIED");
    world.plans.put(planOf(b, always));
    await world.clock.advance(60_000);

    assert.deepEqual([world.reported(x)?.state, world.reported(x)?.reason], ["error", "Denied"]);
  });

  test("is not pulled again by a restart alone", async () => {
    const runtime = new MemoryRuntime().serve(x, b);
    const reports = new MemoryReports();
    const plans = [planOf(a, always)];
    const first = await AgentWorld.start({ runtime, reports, plans });
    await first[Symbol.asyncDispose]();
    const { length } = reports.written;
    await using world = await AgentWorld.start({ runtime, reports, plans });
    await world.settle();

    assert.deepEqual(runtime.pulls, [x]);
    assert.equal(reports.written.length, length);
  });

  test("never is one with a digest", async () => {
    const byDigest = `r.io/x:1@${b}`;
    const plan = aPlan("a/one", [], { images: [{ reference: byDigest, digest: a }], ...always });
    await using world = await AgentWorld.start({ plans: [plan] });
    await world.clock.advance(60_000);

    assert.deepEqual(world.runtime.pulls, [byDigest]);
    assert.deepEqual(
      [world.reported(byDigest)?.digest, world.reported(byDigest)?.reason],
      [b, undefined],
    );
  });
});

describe("an image that is removed again and again", () => {
  test("says so, there or not, and no longer when it has stayed for long", async () => {
    await using world = await AgentWorld.start({ plans: [aPlan("a/one", [x])] });
    for (let round = 0; round < 3; round++) {
      world.runtime.remove(x);
      await world.clock.advance(30_000);
    }
    assert.deepEqual(
      [world.reported(x)?.state, world.reported(x)?.reason],
      ["available", "RemovedRepeatedly"],
    );
    await world.clock.advance(600_000);
    assert.deepEqual(
      [world.reported(x)?.state, world.reported(x)?.reason],
      ["available", undefined],
    );
  });

  test("is nobody's concern when its Node is deleted", async () => {
    await using world = await AgentWorld.start({ plans: [aPlan("a/one", [x])] });
    for (let round = 0; round < 3; round++) {
      world.runtime.remove(x);
      await world.clock.advance(30_000);
    }
    world.nodes.remove("worker");
    await world.clock.advance(3_600_000);

    assert.equal(world.runtime.pulls.length, 4);
  });

  test("is remembered by the next process", async () => {
    const runtime = new MemoryRuntime();
    const reports = new MemoryReports();
    const plans = [aPlan("a/one", [x])];
    const first = await AgentWorld.start({ runtime, reports, plans });
    for (let round = 0; round < 3; round++) {
      runtime.remove(x);
      await first.clock.advance(30_000);
    }
    await first[Symbol.asyncDispose]();
    await using world = await AgentWorld.start({ runtime, reports, plans, clock: first.clock });
    runtime.remove(x);
    const pulls = runtime.pulls.length;
    await world.clock.advance(31_000);
    assert.equal(runtime.pulls.length, pulls, "the fourth time takes 32 s");
    assert.equal(world.reported(x)?.reason, "RemovedRepeatedly");
  });
});

describe("a report that somebody deletes or changes", () => {
  test("is there again, as it was", async () => {
    await using world = await AgentWorld.start({ plans: [aPlan("a/one", [x])] });
    await world.clock.advance(10_000);
    const before = world.reported(x);
    world.reports.delete();
    await world.clock.advance(2_000);

    assert.deepEqual(world.reported(x), before);
  });
});
