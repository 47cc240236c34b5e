import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";

import { RpcError, RuntimeUnavailableError, UnsupportedError } from "#cri/rpc-error.ts";
import type { Ingest } from "#cri/runtime-client.ts";
import { silentLog } from "#telemetry/log.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { StallWatch } from "./stall-watch.ts";

const digest = (letter: string): string => `sha256:${letter.repeat(64)}`;

/** A watch over a runtime that shows what it is told to. */
class Bench {
  readonly clock = new ManualClock();
  readonly blobs = new Map<string, Buffer>();
  /** What is no manifest, but a layer. */
  readonly tooLarge = new Set<string>();
  ingests: Ingest[] = [];
  problem: Error | undefined;
  looks = 0;
  readonly reads: string[] = [];
  /** Goes on with the clock, whatever that is set to. */
  #setBackMs = 0;
  readonly watch = new StallWatch({
    transfers: {
      ingests: async () => {
        this.looks++;
        if (this.problem) throw this.problem;
        return this.ingests;
      },
      readBlob: async (digest) => {
        this.reads.push(digest);
        if (this.tooLarge.has(digest)) throw new RpcError("INTERNAL", "more than one message");
        return this.blobs.get(digest);
      },
    },
    timeoutMs: 60_000,
    clock: {
      now: () => new Date(this.clock.now().getTime() - this.#setBackMs),
      sleep: (ms, options) => this.clock.sleep(ms, options),
    },
    monotonicMs: () => this.clock.now().getTime(),
    log: silentLog,
  });

  /** Starts a pull that lasts until it is ended or given up. */
  pull(
    t: TestContext,
    { digest, attempts = 0 }: { digest?: string; attempts?: number } = {},
  ): { outcome: () => string; end: () => void } {
    const done = Promise.withResolvers<string>();
    let outcome = "running";
    const work = (signal: AbortSignal): Promise<string> => {
      signal.addEventListener("abort", () => done.reject(signal.reason));
      return done.promise;
    };
    this.watch.guard({ reference: "r.io/x:1", digest, attempts }, work, t).then(
      (value) => (outcome = value),
      (error: unknown) => (outcome = String(error)),
    );
    t.after(() => done.resolve("over"));
    return { outcome: () => outcome, end: () => done.resolve("pulled") };
  }

  setBack(ms: number): void {
    this.#setBackMs = ms;
  }

  show(ref: string, offsetBytes: number): void {
    this.ingests = [{ ref, offsetBytes }];
  }
}

describe("StallWatch.isStill()", () => {
  const reference = "r.io/x:1";

  test("is true of a pull that has got nothing for half of its time, until it gets on", async (t) => {
    const bench = new Bench();
    bench.pull(t);
    await bench.clock.advance(29_000);
    assert.equal(bench.watch.isStill(reference), false);
    await bench.clock.advance(1_000);
    assert.equal(bench.watch.isStill(reference), true);
    bench.show(`layer-${digest("a")}`, 1);
    await bench.clock.advance(5_000);

    assert.equal(bench.watch.isStill(reference), false);
  });

  test("is false of what is not pulled, and where the runtime cannot tell", async (t) => {
    const bench = new Bench();
    assert.equal(bench.watch.isStill(reference), false);
    bench.problem = new UnsupportedError("no content");
    bench.pull(t);
    await bench.clock.advance(300_000);

    assert.equal(bench.watch.isStill(reference), false);
  });
});

describe("StallWatch.guard()", () => {
  // Anybody may name the digest of a layer that is there.
  test("follows others' downloads beside a digest that is no manifest's", async (t) => {
    const bench = new Bench();
    bench.tooLarge.add(digest("f"));
    const hostile = bench.pull(t, { digest: digest("f") });
    const good = bench.pull(t);
    for (let second = 0; second < 120; second += 5) {
      bench.show("layer-sha256:1", second);
      await bench.clock.advance(5_000);
    }
    assert.equal(good.outcome(), "running");
    hostile.end();
  });

  test("gives up no pull for what it could not see", async (t) => {
    const bench = new Bench();
    const pull = bench.pull(t);
    bench.problem = new RpcError("PERMISSION_DENIED", "no");
    await bench.clock.advance(300_000);
    assert.equal(pull.outcome(), "running");
  });

  test("lets a pull end, and asks the runtime no more", async (t) => {
    const bench = new Bench();
    const pull = bench.pull(t);
    await bench.clock.advance(0);
    pull.end();
    await bench.clock.advance(0);
    assert.equal(pull.outcome(), "pulled");
    await bench.clock.advance(600_000);

    assert.deepEqual([bench.looks, bench.clock.sleeping], [1, 0]);
  });

  test("asks once for all pulls, every five seconds", async (t) => {
    const bench = new Bench();
    for (let pull = 0; pull < 10; pull++) bench.pull(t);
    await bench.clock.advance(29_000);

    assert.equal(bench.looks, 6);
  });

  test("gives up a pull whose download stands still", async (t) => {
    const bench = new Bench();
    const pull = bench.pull(t);
    for (let second = 0; second < 120; second++) {
      bench.show(`layer-${digest("a")}`, second);
      await bench.clock.advance(1_000);
    }
    await bench.clock.advance(50_000);
    assert.equal(pull.outcome(), "running");
    await bench.clock.advance(15_000);

    assert.match(pull.outcome(), /^PullStalledError: .*nothing came for 60 s/);
  });

  test("gives up a pull whose registry says nothing, with more patience each time", async (t) => {
    const bench = new Bench();
    const [first, third] = [bench.pull(t), bench.pull(t, { attempts: 2 })];
    await bench.clock.advance(60_000);
    assert.match(first.outcome(), /nothing came for 60 s/);
    await bench.clock.advance(170_000);
    assert.equal(third.outcome(), "running");
    await bench.clock.advance(10_000);

    assert.match(third.outcome(), /nothing came for 240 s/);
  });

  test("has no more than eight times the patience, however often a pull has failed", async (t) => {
    const bench = new Bench();
    const pull = bench.pull(t, { attempts: 100 });
    await bench.clock.advance(479_000);
    assert.equal(pull.outcome(), "running");
    await bench.clock.advance(6_000);

    assert.match(pull.outcome(), /nothing came for 480 s/);
  });

  test("gives up a pull in its time when the clock is set back", async (t) => {
    const bench = new Bench();
    const pull = bench.pull(t);
    await bench.clock.advance(5_000);
    bench.setBack(3_600_000);
    await bench.clock.advance(60_000);

    assert.match(pull.outcome(), /nothing came for 60 s/);
    assert.equal(bench.looks, 13);
  });

  test("reads a blob that is no manifest once", async (t) => {
    const bench = new Bench();
    bench.blobs.set(digest("f"), Buffer.from("a layer"));
    bench.pull(t, { digest: digest("f") });
    await bench.clock.advance(50_000);

    assert.deepEqual(bench.reads, [digest("f")]);
  });

  test("does not take unpacking for a stall", async (t) => {
    const bench = new Bench();
    const pull = bench.pull(t);
    await bench.clock.advance(5_000);
    bench.show(`layer-${digest("a")}`, 1);
    await bench.clock.advance(5_000);
    bench.ingests = [];
    await bench.clock.advance(600_000);

    assert.equal(pull.outcome(), "running");
  });

  test("tells the pull that stalls from the one that does not, by their manifests", async (t) => {
    const bench = new Bench();
    const manifest = { layers: [{ digest: digest("a") }] };
    bench.blobs.set(digest("1"), Buffer.from(JSON.stringify(manifest)));
    const other = { layers: [{ digest: digest("b") }] };
    bench.blobs.set(digest("2"), Buffer.from(JSON.stringify(other)));
    const stalls = bench.pull(t, { digest: digest("1") });
    const goesOn = bench.pull(t, { digest: digest("2") });
    for (let second = 0; second < 75; second++) {
      bench.ingests = [
        { ref: `layer-${digest("a")}`, offsetBytes: 7 },
        { ref: `layer-${digest("b")}`, offsetBytes: second },
      ];
      await bench.clock.advance(1_000);
    }

    assert.match(stalls.outcome(), /PullStalledError/);
    assert.equal(goesOn.outcome(), "running");
  });

  test("asks no runtime that cannot tell, and leaves the pull its time", async (t) => {
    const bench = new Bench();
    bench.problem = new UnsupportedError("no content");
    const pull = bench.pull(t);
    await bench.clock.advance(600_000);

    assert.deepEqual([pull.outcome(), bench.looks], ["running", 1]);
  });

  test("asks on when the runtime was away", async (t) => {
    const bench = new Bench();
    const pull = bench.pull(t);
    bench.problem = new RuntimeUnavailableError("gone");
    await bench.clock.advance(40_000);
    bench.problem = undefined;
    await bench.clock.advance(5_000);
    bench.show(`layer-${digest("a")}`, 1);
    await bench.clock.advance(50_000);

    assert.equal(pull.outcome(), "running");
  });
});
