import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { nextPull, type PullRequest, type RunningPull } from "./fair-share.ts";

function aRequest(
  namespace: string,
  reference: string,
  more: Partial<PullRequest> = {},
): PullRequest {
  return { reference, namespaces: [namespace], priority: 0, isRetry: false, dueMs: 0, ...more };
}

function running(namespace: string, isRetry = false): RunningPull {
  return { reference: `${namespace}-running`, namespace, isRetry };
}

function next(waiting: PullRequest[], turn: Partial<Parameters<typeof nextPull>[1]> = {}): string {
  const full = { running: [], concurrency: 3, lastTurns: new Map(), nowMs: 0, ...turn };
  return nextPull(waiting, full)?.request.reference ?? "nothing";
}

describe("nextPull()", () => {
  test("orders a namespace by priority, then by who has not failed, then by time", () => {
    const late = aRequest("a", "late", { dueMs: -1 });
    const early = aRequest("a", "early", { dueMs: -2 });
    const retry = aRequest("a", "retry", { dueMs: -3, isRetry: true });
    const dear = aRequest("a", "dear", { priority: 1 });

    assert.equal(next([late, early, retry, dear]), "dear");
    assert.equal(next([late, early, retry]), "early");
    assert.equal(next([late, retry]), "late");
    assert.equal(next([retry]), "retry");
  });

  test("prefers the namespace with fewer running pulls, whatever the priority", () => {
    const waiting = [aRequest("a", "a1", { priority: 1_000 }), aRequest("b", "b1")];

    assert.equal(next(waiting, { running: [running("a")] }), "b1");
    assert.equal(next(waiting, { running: [running("b")] }), "a1");
  });

  test("gives namespaces that are even their turns one after the other", () => {
    const waiting = [aRequest("a", "a1"), aRequest("b", "b1")];

    assert.equal(next(waiting, { lastTurns: new Map([["a", 1]]) }), "b1");
    assert.equal(
      next(waiting, {
        lastTurns: new Map([
          ["a", 1],
          ["b", 2],
        ]),
      }),
      "a1",
    );
  });

  test("lets an image of two namespaces take the turn of either", () => {
    const shared = aRequest("a", "shared", { namespaces: ["a", "b"] });

    assert.equal(next([aRequest("a", "a1"), shared], { running: [running("a")] }), "shared");
  });

  test("begins nothing before its time, nothing twice, and nothing without a slot", () => {
    assert.equal(next([aRequest("a", "a1", { dueMs: 1 })]), "nothing");
    assert.equal(next([aRequest("a", "a-running")], { running: [running("a")] }), "nothing");
    assert.equal(
      next([aRequest("a", "a1")], { concurrency: 1, running: [running("b")] }),
      "nothing",
    );
  });

  test("keeps one slot from retries, if there is more than one", () => {
    const waiting = [aRequest("a", "a1", { isRetry: true })];

    assert.equal(next(waiting, { running: [running("b", true), running("c", true)] }), "nothing");
    assert.equal(next(waiting, { running: [running("b", true), running("c")] }), "a1");
    assert.equal(next(waiting, { concurrency: 1 }), "a1");
  });

  test("serves each namespace's first image after one turn of each other namespace", () => {
    const names = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 3 }), { minLength: 1 });
    const counts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 10, maxLength: 10 });
    fc.assert(
      fc.property(names, counts, (names, counts) => {
        let waiting = names.flatMap((name, index) =>
          Array.from({ length: counts[index % 10] ?? 1 }, (_, i) => aRequest(name, `${name}/${i}`)),
        );
        const lastTurns = new Map<string, number>();
        for (let turn = 1; turn <= names.length; turn++) {
          const chosen = nextPull(waiting, { running: [], concurrency: 1, lastTurns, nowMs: 0 });
          assert.ok(chosen);
          lastTurns.set(chosen.namespace, turn);
          waiting = waiting.filter((request) => request !== chosen.request);
        }
        assert.deepEqual([...lastTurns.keys()].sort(), [...names].sort());
      }),
    );
  });
});
