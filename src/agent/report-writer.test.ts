import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";

import { ApiError } from "#kube/errors.ts";
import { silentLog } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import { MemoryReports } from "#test/agent-world.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { agentMetrics } from "./metrics.ts";
import { ReportWriter, type DesiredReport } from "./report-writer.ts";

function aReport(observedPlan: string, nodeUid = "node-uid"): DesiredReport {
  const runtime = { name: "containerd", version: "v2" };
  return { nodeUid, status: { images: [], runtime, agentVersion: "1", observedPlan } };
}

/** A writer at work. */
class Bench {
  readonly clock = new ManualClock();
  readonly store: MemoryReports;
  readonly writer: ReportWriter;
  readonly #stop = new AbortController();
  #desired: DesiredReport | undefined;

  private constructor(store: MemoryReports) {
    this.store = store;
    this.writer = new ReportWriter({
      store,
      desired: () => this.#desired,
      clock: this.clock,
      random: () => 0,
      log: silentLog,
      writes: agentMetrics(new Registry()).reportWrites,
    });
  }

  static async start(t: TestContext, store = new MemoryReports()): Promise<Bench> {
    const bench = new Bench(store);
    await bench.writer.restore({ signal: bench.#stop.signal });
    const running = bench.writer.run(bench.#stop.signal);
    t.after(async () => {
      bench.#stop.abort(new Error("over"));
      await running;
    });
    return bench;
  }

  get plans(): string[] {
    return this.store.written.map(({ observedPlan }) => observedPlan);
  }

  async want(report: DesiredReport, { isUrgent = false } = {}): Promise<void> {
    this.#desired = report;
    this.writer.request({ isUrgent });
    await this.clock.advance(0);
  }
}

const urgent = { isUrgent: true };

describe("ReportWriter", () => {
  test("creates the report, owned by the Node, and fills it", async (t) => {
    const bench = await Bench.start(t);
    await bench.want(aReport("1"), urgent);

    assert.deepEqual(bench.store.report?.metadata, {
      name: "worker",
      ownerReferences: [{ apiVersion: "v1", kind: "Node", name: "worker", uid: "node-uid" }],
    });
    assert.deepEqual(bench.plans, ["1"]);
    assert.equal(bench.writer.isWritten, true);
  });

  test("writes nothing when nothing differs", async (t) => {
    const bench = await Bench.start(t);
    await bench.want(aReport("1"), urgent);
    for (let look = 0; look < 100; look++) {
      await bench.want(aReport("1"), urgent);
      await bench.clock.advance(1_000);
    }

    assert.deepEqual(bench.plans, ["1"]);
  });

  test("writes nothing after a restart if the report is right already", async (t) => {
    const store = new MemoryReports();
    const { nodeUid, status } = aReport("1");
    await store.ensure(nodeUid);
    await store.writeStatus(status);
    const bench = await Bench.start(t, store);
    await bench.want(aReport("1"), urgent);

    assert.deepEqual(bench.plans, ["1"]);
    assert.equal(bench.writer.isWritten, true);
  });

  test("lets what is not urgent wait two seconds for company", async (t) => {
    const bench = await Bench.start(t);
    await bench.want(aReport("1"));
    await bench.clock.advance(1_999);
    assert.deepEqual(bench.plans, []);

    await bench.want(aReport("2"));
    await bench.clock.advance(1);
    assert.deepEqual(bench.plans, ["2"]);
  });

  test("writes a few urgent ones at once, and many together", async (t) => {
    const bench = await Bench.start(t);
    for (let change = 1; change <= 50; change++) await bench.want(aReport(`${change}`), urgent);
    assert.deepEqual(bench.plans, ["1", "2", "3"]);

    await bench.clock.advance(2_000);
    assert.deepEqual(bench.plans, ["1", "2", "3", "50"]);
  });

  test("writes at most once every two seconds for long", async (t) => {
    const bench = await Bench.start(t);
    for (let second = 0; second < 60; second++) {
      await bench.want(aReport(`${second}`), urgent);
      await bench.clock.advance(1_000);
    }

    assert.ok(bench.plans.length <= 33, `${bench.plans.length} writes`);
  });

  test("tries on while the API server is away, and then writes only the newest", async (t) => {
    const bench = await Bench.start(t);
    bench.store.fail();
    for (let second = 0; second < 60; second++) {
      await bench.want(aReport(`${second}`), urgent);
      await bench.clock.advance(1_000);
    }
    bench.store.recover();
    await bench.clock.advance(8_000);

    assert.deepEqual(bench.plans, ["59"]);
  });

  test("is patient with a server that refuses", async (t) => {
    const bench = await Bench.start(t);
    const request = { method: "PATCH", path: "/" };
    bench.store.fail(
      new ApiError(request, { status: 403, reason: "Forbidden", message: "no such right" }),
    );
    await bench.want(aReport("1"), urgent);
    await bench.clock.advance(130_000);
    bench.store.recover();
    await bench.clock.advance(119_000);

    assert.deepEqual(bench.plans, ["1"]);
  });

  test("makes the report anew if somebody deleted it", async (t) => {
    const bench = await Bench.start(t);
    await bench.want(aReport("1"), urgent);
    bench.store.delete();
    await bench.want(aReport("2"), urgent);

    assert.deepEqual(bench.plans, ["1", "2"]);
    assert.equal(bench.store.report?.metadata.ownerReferences?.[0]?.uid, "node-uid");
  });

  test("changes the owner when the Node was made anew", async (t) => {
    const bench = await Bench.start(t);
    await bench.want(aReport("1"), urgent);
    await bench.want(aReport("1", "other-uid"), urgent);

    assert.equal(bench.store.report?.metadata.ownerReferences?.[0]?.uid, "other-uid");
  });

  test("flushes what is left, once, whatever happens", async (t) => {
    const { signal } = t;
    const bench = await Bench.start(t);
    await bench.want(aReport("1"));
    await bench.writer.flush({ signal });
    await bench.writer.flush({ signal });
    assert.deepEqual(bench.plans, ["1"]);

    await bench.want(aReport("2"));
    bench.store.fail();
    await bench.writer.flush({ signal });
    assert.deepEqual(bench.plans, ["1"]);
  });

  test("waits for a server that is away to read the earlier report, and goes on if refused", async (t) => {
    const { signal } = t;
    const bench = await Bench.start(t);
    bench.store.fail();
    const restored = bench.writer.restore({ signal });
    await bench.clock.advance(5_000);
    bench.store.report = { metadata: { name: "worker" }, status: aReport("1").status };
    bench.store.recover();
    await bench.clock.advance(8_000);
    assert.equal((await restored)?.observedPlan, "1");

    const request = { method: "GET", path: "/" };
    bench.store.fail(new ApiError(request, { status: 403, reason: "Forbidden", message: "no" }));
    assert.equal(await bench.writer.restore({ signal }), undefined);
  });
});
