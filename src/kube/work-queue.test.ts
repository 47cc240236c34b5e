import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { ManualClock } from "#test/manual-clock.ts";
import { silentLog } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import { ApiError } from "./errors.ts";
import { settled, TerminalError, type Reconcile, type Result } from "./reconcile.ts";
import { WorkQueue } from "./work-queue.ts";

/** A queue whose reconciles the test holds in its hand, one by one. */
class Bench implements AsyncDisposable {
  readonly clock = new ManualClock();
  readonly metrics = new Registry();
  readonly queue = new WorkQueue({
    name: "test",
    clock: this.clock,
    random: () => 0, // The longest of waits.
    backoff: { minMs: 100, maxMs: 1_000 },
    metrics: this.metrics,
  });
  readonly started: string[] = [];
  readonly inHand = new Map<string, PromiseWithResolvers<Result>>();
  readonly #stop = new AbortController();
  readonly running: Promise<void>;

  constructor(workers: number, reconcile?: Reconcile) {
    const hold: Reconcile = (key) => {
      assert.equal(this.inHand.has(key), false, "a key is never reconciled twice at once");
      const held = Promise.withResolvers<Result>();
      this.started.push(key);
      this.inHand.set(key, held);
      return held.promise;
    };
    const options = { workers, log: silentLog, signal: this.#stop.signal };
    this.running = this.queue.run(reconcile ?? hold, options);
  }

  /** Lets a reconcile in hand end, and everything that follows from it happen. */
  async end(key: string, outcome: Result | Error = settled): Promise<void> {
    const held = this.inHand.get(key);
    assert.ok(held, `${key} is in hand`);
    this.inHand.delete(key);
    if (outcome instanceof Error) held.reject(outcome);
    else held.resolve(outcome);
    await setImmediate();
  }

  stop(): void {
    this.#stop.abort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
    for (const key of this.inHand.keys()) await this.end(key);
    await this.running;
  }
}

describe("WorkQueue", () => {
  test("lets groups take turns, and each key of a group come in its order", async () => {
    const stop = new AbortController();
    const started: string[] = [];
    const queue = new WorkQueue({
      name: "test",
      clock: new ManualClock(),
      backoff: { minMs: 100, maxMs: 1_000 },
      groupOf: (key) => key.split("/")[0] ?? "",
    });
    for (const key of ["many/1", "many/2", "many/3", "many/4", "few/1", "few/2"]) queue.add(key);
    queue.add("many/2");
    assert.equal(queue.size, 6);
    const reconcile: Reconcile = (key) => {
      started.push(key);
      if (queue.size === 0) stop.abort();
      return Promise.resolve(settled);
    };
    await queue.run(reconcile, { workers: 1, log: silentLog, signal: stop.signal });

    assert.deepEqual(started, ["many/1", "few/1", "many/2", "few/2", "many/3", "many/4"]);
  });

  test("reconciles a key once that was added twice", async () => {
    await using bench = new Bench(1);
    for (const key of ["a", "b", "a"]) bench.queue.add(key);
    await setImmediate();
    await bench.end("a");
    await bench.end("b");

    assert.deepEqual(bench.started, ["a", "b"]);
    assert.equal(bench.queue.size, 0);
  });

  test("reconciles a key once more that is added while it is reconciled", async () => {
    await using bench = new Bench(2);
    bench.queue.add("a");
    await setImmediate();
    for (const key of ["a", "b", "a"]) bench.queue.add(key);
    await setImmediate();
    assert.deepEqual(bench.started, ["a", "b"]);

    await bench.end("a");
    assert.deepEqual(bench.started, ["a", "b", "a"]);
    await bench.end("a");
    assert.equal(bench.queue.size, 0);
  });

  test("waits longer from failure to failure, until one succeeds", async () => {
    await using bench = new Bench(1);
    bench.queue.add("a");
    await setImmediate();
    for (const waitMs of [100, 200, 400, 800, 1_000, 1_000]) {
      await bench.end("a", new Error("no"));
      await bench.clock.advance(waitMs - 1);
      assert.equal(bench.inHand.has("a"), false, `not before ${waitMs} ms`);
      await bench.clock.advance(1);
      assert.ok(bench.inHand.has("a"), `after ${waitMs} ms`);
    }
    await bench.end("a", { requeueAfterMs: 5_000 });
    await bench.clock.advance(5_000);
    await bench.end("a", new Error("no"));
    await bench.clock.advance(100);
    assert.ok(bench.inHand.has("a"), "the first failure after a success waits shortly");
  });

  test("does not try again after a terminal error until the key is added", async () => {
    await using bench = new Bench(1);
    bench.queue.add("a");
    await setImmediate();
    await bench.end("a", new TerminalError("a person must act"));
    await bench.clock.advance(3_600_000);
    assert.deepEqual(bench.started, ["a"]);

    bench.queue.add("a");
    await setImmediate();
    assert.deepEqual(bench.started, ["a", "a"]);
  });

  test("waits as long as the API server asks", async () => {
    await using bench = new Bench(1);
    bench.queue.add("a");
    await setImmediate();
    const request = { method: "GET", path: "/" };
    const refusal = { status: 429, reason: "Busy", message: "", retryAfterMs: 7_000 };
    await bench.end("a", new ApiError(request, refusal));
    await bench.clock.advance(6_999);
    assert.equal(bench.inHand.size, 0);

    await bench.clock.advance(1);
    assert.equal(bench.inHand.size, 1);
  });

  test("counts the earliest of a key's delayed adds", async () => {
    await using bench = new Bench(1);
    bench.queue.addAfter("a", 5_000);
    bench.queue.addAfter("a", 2_000);
    bench.queue.addAfter("a", 9_000);
    await bench.clock.advance(2_000);
    assert.deepEqual(bench.started, ["a"]);

    await bench.end("a");
    await bench.clock.advance(60_000);
    assert.deepEqual(bench.started, ["a"]);
  });

  test("keeps delays that were asked for before it runs", async () => {
    const clock = new ManualClock();
    const queue = new WorkQueue({ name: "test", clock, backoff: { minMs: 1, maxMs: 1 } });
    const stop = new AbortController();
    const seen: string[] = [];
    queue.addAfter("a", 1_000);
    const reconcile = (key: string): Promise<Result> => {
      seen.push(key);
      return Promise.resolve(settled);
    };
    const running = queue.run(reconcile, { workers: 1, log: silentLog, signal: stop.signal });
    await clock.advance(1_000);

    assert.deepEqual(seen, ["a"]);
    stop.abort();
    await running;
  });

  test("waits for what is in hand when it is stopped, and takes nothing new", async () => {
    const bench = new Bench(2);
    for (const key of ["a", "b", "c"]) bench.queue.add(key);
    await setImmediate();
    bench.stop();
    let isDone = false;
    const done = bench.running.then(() => (isDone = true));
    await bench.end("a");
    assert.equal(isDone, false);

    await bench.end("b");
    await done;
    assert.deepEqual(bench.started, ["a", "b"]);
  });

  test("shows its depth and its results", async () => {
    await using bench = new Bench(1);
    for (const key of ["a", "b"]) bench.queue.add(key);
    await setImmediate();
    assert.match(bench.metrics.render(), /coral_workqueue_depth\{controller="test"\} 1/);

    await bench.end("a", new Error("no"));
    const page = bench.metrics.render();
    assert.match(page, /coral_reconcile_total\{controller="test",result="failed"\} 1/);
  });

  test("loses no key, runs none twice at once, and comes to rest, whatever happens", async () => {
    const key = fc.constantFrom("a", "b", "c");
    const step = fc.oneof(
      fc.record({ act: fc.constant("add" as const), key }),
      fc.record({ act: fc.constant("addAfter" as const), key, ms: fc.integer({ max: 3_000 }) }),
      fc.record({ act: fc.constant("advance" as const), ms: fc.nat(2_000) }),
      fc.record({
        act: fc.constant("end" as const),
        key,
        outcome: fc.constantFrom<Result | Error>(settled, { requeueAfterMs: 500 }, new Error("no")),
      }),
    );
    const property = fc.asyncProperty(
      fc.array(step, { maxLength: 40 }),
      fc.integer({ min: 1, max: 3 }),
      async (steps, workers) => {
        await using bench = new Bench(workers);
        /** Keys that must be reconciled from their beginning after this. */
        const owed = new Set<string>();
        const note = (from: number): void => {
          for (const key of bench.started.slice(from)) owed.delete(key);
        };
        for (const step of steps) {
          const from = bench.started.length;
          if (step.act === "add") {
            bench.queue.add(step.key);
            owed.add(step.key);
          } else if (step.act === "addAfter") {
            bench.queue.addAfter(step.key, step.ms);
            owed.add(step.key);
          } else if (step.act === "advance") {
            await bench.clock.advance(step.ms);
          } else if (bench.inHand.has(step.key)) {
            await bench.end(step.key, step.outcome);
          }
          await setImmediate();
          note(from);
          assert.ok(bench.inHand.size <= workers);
        }
        for (let round = 0; round < 50 && (owed.size > 0 || bench.inHand.size > 0); round++) {
          const from = bench.started.length;
          for (const key of bench.inHand.keys()) await bench.end(key);
          await bench.clock.advance(3_000);
          note(from);
        }
        assert.deepEqual([...owed], []);
        assert.equal(bench.queue.size, 0);
        assert.equal(bench.inHand.size, 0);
      },
    );
    await fc.assert(property, { numRuns: 200 });
  });
});
