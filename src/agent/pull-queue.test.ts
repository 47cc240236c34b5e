import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";

import { Registry } from "#telemetry/metrics.ts";
import { ManualClock } from "#test/manual-clock.ts";
import type { PullRequest } from "./fair-share.ts";
import { agentMetrics } from "./metrics.ts";
import { PullQueue } from "./pull-queue.ts";

function aRequest(reference: string, more: Partial<PullRequest> = {}): PullRequest {
  const host = `${reference}.example`; // A registry of its own.
  return { reference, host, namespaces: ["a"], priority: 0, isRetry: false, dueMs: 0, ...more };
}

/** A queue at work whose pulls last until the test ends them. */
class Bench {
  readonly clock = new ManualClock();
  readonly begun: string[] = [];
  readonly aborted: string[] = [];
  readonly queue: PullQueue;
  readonly running = new Map<string, PromiseWithResolvers<void>>();
  readonly stop = new AbortController();
  readonly done: Promise<void>;
  /** What is told to wait, and changed as pulls end. */
  waiting: PullRequest[] = [];

  constructor(t: TestContext, concurrency = 2) {
    this.queue = new PullQueue({
      concurrency,
      clock: this.clock,
      metrics: agentMetrics(new Registry()),
      pull: (reference, options) => this.#pull(reference, options.signal),
    });
    this.done = this.queue.run(this.stop.signal);
    t.after(async () => {
      this.stop.abort(new Error("over"));
      await this.done;
    });
  }

  async tell(...waiting: PullRequest[]): Promise<void> {
    this.waiting = waiting;
    this.replace();
    await this.clock.advance(0);
  }

  replace(isHeld = false): void {
    const owed = new Set(this.waiting.map(({ reference }) => reference));
    this.queue.replace(this.waiting, { isHeld, isOwed: (reference) => owed.has(reference) });
  }

  async end(reference: string): Promise<void> {
    this.running.get(reference)?.resolve();
    await this.clock.advance(0);
  }

  async #pull(reference: string, signal: AbortSignal): Promise<void> {
    assert.equal(this.running.has(reference), false, "one pull per reference at a time");
    this.begun.push(reference);
    const pull = Promise.withResolvers<void>();
    this.running.set(reference, pull);
    const onAbort = (): void => {
      this.aborted.push(reference);
      pull.reject(signal.reason);
    };
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await pull.promise;
      this.waiting = this.waiting.filter((request) => request.reference !== reference);
      this.replace();
    } finally {
      this.running.delete(reference);
    }
  }
}

describe("PullQueue", () => {
  test("pulls as many at once as it may, and the rest as slots become free", async (t) => {
    const bench = new Bench(t, 2);
    const other = { namespaces: ["b"] };
    await bench.tell(aRequest("x"), aRequest("y", other), aRequest("z", other));
    assert.deepEqual(bench.begun, ["x", "y"]);

    await bench.end("y");
    assert.deepEqual(bench.begun, ["x", "y", "z"]);
  });

  test("pulls a reference once, however often it is told of it", async (t) => {
    const bench = new Bench(t);
    await bench.tell(aRequest("x"));
    await bench.tell(aRequest("x"));
    await bench.tell(aRequest("x"));
    await bench.end("x");

    assert.deepEqual(bench.begun, ["x"]);
  });

  test("begins a pull when it is due, and not before", async (t) => {
    const bench = new Bench(t);
    const dueMs = bench.clock.now().getTime() + 10_000;
    await bench.tell(aRequest("x", { dueMs }));
    await bench.clock.advance(9_999);
    assert.deepEqual(bench.begun, []);

    await bench.clock.advance(1);
    assert.deepEqual(bench.begun, ["x"]);
  });

  // The clock was set back, and timers of more than 24 days end at once.
  test("looks at the clock again within ten minutes, however far off a pull is", async (t) => {
    const bench = new Bench(t);
    const sleeps = t.mock.method(bench.clock, "sleep");
    const dueMs = bench.clock.now().getTime() + 10 * 365 * 24 * 3_600_000;
    await bench.tell(aRequest("x", { dueMs }));

    assert.equal(sleeps.mock.calls.at(-1)?.arguments[0], 600_000);
  });

  test("aborts a pull that is no longer owed, and frees its slot", async (t) => {
    const bench = new Bench(t, 1);
    await bench.tell(aRequest("x"), aRequest("y"));
    await bench.tell(aRequest("y"));

    assert.deepEqual(bench.aborted, ["x"]);
    assert.deepEqual(bench.begun, ["x", "y"]);
  });

  test("pulls again what is owed again after it was aborted", async (t) => {
    const bench = new Bench(t);
    await bench.tell(aRequest("x"));
    await bench.tell();
    await bench.tell(aRequest("x"));

    assert.deepEqual(bench.begun, ["x", "x"]);
  });

  test("begins nothing while it is held, and lets go on what runs", async (t) => {
    const bench = new Bench(t, 1);
    await bench.tell(aRequest("x"), aRequest("y"));
    bench.replace(true);
    await bench.clock.advance(60_000);
    assert.deepEqual(bench.aborted, []);
    assert.deepEqual(bench.begun, ["x"]);

    await bench.end("x");
    assert.deepEqual(bench.begun, ["x", "y"]);
  });

  test("does not let five hundred names of one namespace starve the image of another", async (t) => {
    const bench = new Bench(t, 3);
    const bad = Array.from({ length: 500 }, (_, i) => aRequest(`bad-${i}`, { priority: 1_000 }));
    await bench.tell(...bad);
    assert.equal(
      bench.running.size,
      2,
      "one slot is left to the others, should these hang for ever",
    );
    await bench.tell(...bad, aRequest("good", { namespaces: ["modest"] }));

    assert.equal(bench.begun.at(-1), "good");
  });

  test("aborts everything and returns when it is stopped", async (t) => {
    const bench = new Bench(t, 2);
    await bench.tell(aRequest("x"), aRequest("y", { namespaces: ["b"] }));
    bench.stop.abort(new Error("enough"));
    await bench.done;

    assert.deepEqual(bench.aborted, ["x", "y"]);
    assert.equal(bench.running.size, 0);
  });
});
