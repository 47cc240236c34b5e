import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";

import * as fc from "fast-check";

import { ApiError } from "#kube/errors.ts";
import type { KubeObject } from "#kube/types.ts";
import { silentLog } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import { MemoryReports } from "#test/agent-world.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { agentMetrics } from "./metrics.ts";
import type { NodeReportStatus } from "#api/v1/node-report.ts";
import { ReportWriter, type DesiredReport } from "./report-writer.ts";

function aReport(observedPlan: string, nodeUid = "node-uid"): DesiredReport {
  const runtime = { name: "containerd", version: "v2" };
  return { nodeUid, status: { images: [], runtime, agentVersion: "1", observedPlan } };
}

/** A report that says something of many images. */
function aLargeReport(observedPlan: string, size: number): DesiredReport {
  const images = Array.from({ length: size }, (_, place) => ({
    reference: `r.io/x:${place}`,
    state: "pending" as const,
    since: "2026-01-01T00:00:00Z",
  }));
  const { nodeUid, status } = aReport(observedPlan);
  return { nodeUid, status: { ...status, images } };
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
      nodeName: "worker",
      store,
      feed: store.feed,
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

  get desired(): DesiredReport | undefined {
    return this.#desired;
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

    assert.deepEqual(bench.store.report?.metadata.ownerReferences, [
      { apiVersion: "v1", kind: "Node", name: "worker", uid: "node-uid" },
    ]);
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

  test("writes a large report the less often, but what is urgent at once after a calm", async (t) => {
    const bench = await Bench.start(t);
    for (let second = 0; second < 60; second++) {
      await bench.want(aLargeReport(`${second}`, 500), urgent);
      await bench.clock.advance(1_000);
    }
    assert.ok(bench.plans.length <= 9, `${bench.plans.length} writes`);

    await bench.clock.advance(60_000);
    await bench.want(aLargeReport("there", 500), urgent);
    assert.equal(bench.plans.at(-1), "there");
  });

  test("is right within 15 s, however many images there are and whatever was written before", async (t) => {
    const bench = await Bench.start(t);
    for (let second = 0; second < 20; second++) {
      await bench.want(aLargeReport(`${second}`, 5_000), urgent);
      await bench.clock.advance(1_000);
    }
    for (const isUrgent of [true, false]) {
      await bench.want(aLargeReport(`urgent: ${isUrgent}`, 5_000), { isUrgent });
      await bench.clock.advance(15_000);
      assert.equal(bench.plans.at(-1), `urgent: ${isUrgent}`);
    }
  });

  test("writes at once what is urgent, however much there is that can wait", async (t) => {
    const bench = await Bench.start(t);
    for (let second = 0; second < 20; second++) {
      await bench.want(aReport(`${second}`));
      await bench.clock.advance(1_000);
    }
    assert.ok(bench.plans.length <= 10, `${bench.plans.length} writes`);
    await bench.want(aReport("there"), urgent);

    assert.equal(bench.plans.at(-1), "there");
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

  test("never says of a new Node what the old one of its name had", async (t) => {
    const bench = await Bench.start(t);
    await bench.want(aReport("old"), urgent);
    const said: unknown[] = [];
    using _ = bench.store.feed.onChange(() => {
      const { metadata, status } = bench.store.report ?? {};
      said.push([metadata?.ownerReferences?.[0]?.uid, status?.observedPlan]);
    });
    await bench.want(aReport("new", "other-uid"), urgent);

    assert.deepEqual(said, [
      ["node-uid", "old"],
      ["node-uid", "new"],
      ["other-uid", "new"],
      ["other-uid", "new"], // Changes nothing, as a rule.
    ]);
  });

  test("fills the report that a new Node gets because the old one's is collected meanwhile", async (t) => {
    const store = new MemoryReports();
    const make = store.ensure.bind(store);
    t.mock.method(store, "ensure", async (nodeUid: string): Promise<KubeObject> => {
      if (nodeUid === "other-uid") store.delete();
      return make(nodeUid);
    });
    const bench = await Bench.start(t, store);
    await bench.want(aReport("old"), urgent);
    await bench.want(aReport("new", "other-uid"), urgent);

    assert.equal(store.report?.status?.observedPlan, "new");
  });

  test("has written nothing, and tries again, while reports vanish as soon as they are made", async (t) => {
    const store = new MemoryReports();
    const make = store.ensure.bind(store);
    const vanishing = t.mock.method(store, "ensure", async (nodeUid: string) => {
      const report = await make(nodeUid);
      store.delete();
      return report;
    });
    const bench = await Bench.start(t, store);
    await bench.want(aReport("1"), urgent);
    assert.equal(bench.writer.isWritten, false);
    vanishing.mock.restore();
    await bench.clock.advance(10_000);

    assert.equal(store.report?.status?.observedPlan, "1");
    assert.equal(bench.writer.isWritten, true);
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

  test("makes the report anew as soon as it hears that somebody deleted it", async (t) => {
    const bench = await Bench.start(t);
    await bench.want(aReport("1"), urgent);
    bench.store.delete();
    await bench.clock.advance(2_000);

    assert.deepEqual(bench.plans, ["1", "1"]);
    assert.equal(bench.store.report?.status?.observedPlan, "1");
  });

  test("writes again what somebody else has changed", async (t) => {
    const bench = await Bench.start(t);
    await bench.want(aReport("1"), urgent);
    bench.store.forge(aReport("forged").status);
    await bench.clock.advance(2_000);

    assert.deepEqual(bench.plans, ["1", "1"]);
    assert.equal(bench.store.report?.status?.observedPlan, "1");
  });

  test("writes again what a backup has undone, once, though its version is an old one", async (t) => {
    const bench = await Bench.start(t);
    await bench.want(aReport("1"), urgent);
    bench.store.backUp();
    await bench.want(aReport("2"), urgent);
    bench.store.goBack();
    await bench.clock.advance(600_000);

    assert.deepEqual(bench.plans, ["1", "2", "2"]);
    assert.equal(bench.store.report?.status?.observedPlan, "2");
  });

  test("takes its own writes for its own, however late they come back", async (t) => {
    const bench = await Bench.start(t);
    bench.store.holdFeed();
    for (const plan of ["1", "2", "3"]) await bench.want(aReport(plan), urgent);
    bench.store.catchUp();
    await bench.clock.advance(60_000);

    assert.deepEqual(bench.plans, ["1", "2", "3"]);
  });

  test("hears late that a report was deleted which it has made anew since", async (t) => {
    const bench = await Bench.start(t);
    await bench.want(aReport("1"), urgent);
    bench.store.holdFeed();
    bench.store.delete();
    await bench.want(aReport("2"), urgent);
    bench.store.catchUp();
    await bench.clock.advance(60_000);

    assert.deepEqual(bench.plans, ["1", "2"]);
  });

  // The server's definition of the kind may be older than the agent.
  test("writes once what the server keeps only a part of", async (t) => {
    const store = new MemoryReports();
    const keepAll = store.writeStatus.bind(store);
    t.mock.method(store, "writeStatus", async (status: NodeReportStatus) =>
      keepAll({ ...status, agentVersion: "?" }),
    );
    const bench = await Bench.start(t, store);
    await bench.want(aReport("1"), urgent);
    await bench.clock.advance(60_000);

    assert.deepEqual(bench.plans, ["1"]);
  });

  test("tells what an earlier process reported", async (t) => {
    const store = new MemoryReports();
    store.forge(aReport("1").status);
    const bench = await Bench.start(t, store);

    assert.equal((await bench.writer.restore({ signal: t.signal }))?.observedPlan, "1");
  });

  test("comes to the truth and then rests, whatever happens in whatever order", async (t) => {
    const act = fc.oneof(
      fc.record({ act: fc.constant("want" as const), plan: fc.integer({ min: 1, max: 5 }) }),
      fc.record({ act: fc.constant("wait" as const), ms: fc.integer({ min: 0, max: 5_000 }) }),
      fc.record({
        act: fc.constantFrom(
          "hold",
          "catchUp",
          "delete",
          "forge",
          "fail",
          "recover",
          "backUp",
          "goBack",
        ),
      }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(act, { maxLength: 30 }), async (acts) => {
        const bench = await Bench.start(t);
        const { store, clock } = bench;
        await bench.want(aReport("0"), urgent);
        for (const step of acts) {
          if (step.act === "want") await bench.want(aReport(`${step.plan}`), urgent);
          else if (step.act === "wait") await clock.advance(step.ms);
          else if (step.act === "hold") store.holdFeed();
          else if (step.act === "forge") store.forge(aReport("forged").status);
          else store[step.act]();
        }
        store.recover();
        store.catchUp();
        await clock.advance(60_000);
        assert.deepEqual(store.report?.status, bench.desired?.status);

        const { length } = store.written;
        await clock.advance(600_000);
        assert.equal(store.written.length, length);
      }),
      { numRuns: 100 },
    );
  });
});
