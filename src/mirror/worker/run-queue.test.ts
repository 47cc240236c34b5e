import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { RunQueue, type QueuedRun, type RunningRun } from "./run-queue.ts";

let number = 0;

function aRun(namespace: string, mirror = "m", host = "r.test"): QueuedRun {
  return { key: `${namespace}/${++number}`, namespace, mirror, host };
}

function queueOf(...runs: QueuedRun[]): RunQueue {
  const queue = new RunQueue();
  for (const run of runs) queue.put(run);
  return queue;
}

/** Begins all runs that may, none of which ends. */
function takeAll(queue: RunQueue, slots: number, running: RunningRun[] = []): RunningRun[] {
  for (;;) {
    const next = queue.take({ running, slots });
    if (!next) return running;
    running.push({ ...next, isHeld: false });
  }
}

function countOf(running: readonly QueuedRun[], namespace: string, mirror?: string): number {
  return running.filter(
    (run) => run.namespace === namespace && (mirror === undefined || run.mirror === mirror),
  ).length;
}

describe("RunQueue", () => {
  test("gives turns to namespaces, and among these to Mirrors, one after the other", () => {
    const many = Array.from({ length: 10 }, () => aRun("a", "one"));
    const [two, b, c] = [aRun("a", "two"), aRun("b"), aRun("c")];
    const queue = queueOf(...many, two, b, c);
    const taken = takeAll(queue, 64).map(({ key }) => key);

    assert.deepEqual(taken.slice(0, 5), [many[0]?.key, b.key, c.key, two.key, many[1]?.key]);
    assert.equal(taken.length, 13);
    assert.equal(queue.size, 0);
  });

  test("keeps a run once, in its place, and forgets those that wait no more", () => {
    const [first, second] = [aRun("a"), aRun("a")];
    const queue = queueOf(first, second, first);
    assert.equal(queue.size, 2);
    queue.delete(first.key);
    queue.delete(first.key);

    assert.deepEqual(
      takeAll(queue, 64).map(({ key }) => key),
      [second.key],
    );
  });

  test("moves a run whose Mirror or registry is another one by now", () => {
    const run = aRun("a", "one");
    const queue = queueOf(run, { ...run, mirror: "two" });

    assert.deepEqual(
      takeAll(queue, 64).map(({ mirror }) => mirror),
      ["two"],
    );
  });

  test("gives one Mirror a quarter of the slots, and leaves half of what is free to others", () => {
    const queue = queueOf(...Array.from({ length: 1_000 }, () => aRun("a", "one")));
    const running = takeAll(queue, 64);
    assert.equal(countOf(running, "a"), 16);
    for (let index = 0; index < 1_000; index++) queue.put(aRun("a", "two"));
    takeAll(queue, 64, running);
    assert.equal(countOf(running, "a", "two"), 8);
    for (let index = 0; index < 1_000; index++) queue.put(aRun("b"));
    takeAll(queue, 64, running);

    assert.equal(countOf(running, "a", "one"), 16);
    assert.ok(countOf(running, "b") >= 8);
    assert.ok(running.length < 64);
  });

  test("begins something where there is little room", () => {
    const queue = queueOf(aRun("a"), aRun("a"), aRun("a"), aRun("b"), aRun("c"));
    const running = takeAll(queue, 4);

    assert.deepEqual(
      ["a", "b", "c"].map((namespace) => countOf(running, namespace)),
      [1, 1, 1],
    );
  });

  test("counts no run that is held, and begins no other of its Mirror at that registry", () => {
    const held = Array.from({ length: 4 }, () => ({ ...aRun("a"), isHeld: true }));
    const [same, elsewhere] = [aRun("a"), aRun("a", "m", "other.test")];
    const [other, b] = [aRun("a", "n"), aRun("b")];
    const queue = queueOf(same, elsewhere, other, b);
    const began = takeAll(queue, 8, [...held]).slice(held.length);

    assert.deepEqual(
      new Set(began.map(({ key }) => key)),
      new Set([elsewhere.key, other.key, b.key]),
    );
    const free = held.map((run) => ({ ...run, isHeld: false }));
    assert.equal(takeAll(queue, 64, free).at(-1)?.key, same.key);
  });

  test("lets no registry hold more runs of a namespace than there are slots, and delays no other", () => {
    const held = Array.from({ length: 8 }, (_, index) => ({
      ...aRun("a", `m${index}`),
      isHeld: true,
    }));
    const [here, elsewhere, other] = [aRun("a"), aRun("a", "m", "other.test"), aRun("b")];
    const began = takeAll(queueOf(here, elsewhere, other), 8, [...held]).slice(held.length);

    assert.deepEqual(new Set(began.map(({ key }) => key)), new Set([elsewhere.key, other.key]));
  });

  test("leaves nobody without a turn, and never has more under way than there are slots", () => {
    const run = fc.record({
      namespace: fc.constantFrom("a", "b", "c"),
      mirror: fc.constantFrom("m", "n"),
      host: fc.constantFrom("r.test", "s.test"),
    });
    fc.assert(
      fc.property(
        fc.array(run, { maxLength: 60 }),
        fc.integer({ min: 4, max: 16 }),
        (all, slots) => {
          const queue = queueOf(
            ...all.map(({ namespace, mirror, host }) => aRun(namespace, mirror, host)),
          );
          let [running, done]: [RunningRun[], number] = [[], 0];
          while (queue.size > 0) {
            takeAll(queue, slots, running);
            assert.ok(running.length > 0 && running.length <= slots);
            done++;
            running = running.slice(1);
          }
          assert.equal(done + running.length, all.length);
        },
      ),
    );
  });

  test("has the next one from a namespace that has none wait for few others", () => {
    const others = fc.array(fc.constantFrom("a", "b", "c", "d"), { maxLength: 200 });
    fc.assert(
      fc.property(others, (namespaces) => {
        const queue = queueOf(...namespaces.map((namespace) => aRun(namespace)));
        const running = takeAll(queue, 64);
        const mine = aRun("mine");
        queue.put(mine);
        assert.equal(takeAll(queue, 64, running).at(-1)?.namespace, "mine");
      }),
    );
  });
});
