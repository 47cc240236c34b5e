import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { nextPull, type PullRequest, type RunningPull } from "./fair-share.ts";

function aRequest(
  namespace: string,
  reference: string,
  more: Partial<PullRequest> = {},
): PullRequest {
  const host = `${reference}.example`; // A registry of its own.
  const usual = { priority: 0, isRetry: false, dueMs: 0 };
  return { reference, host, namespaces: [namespace], ...usual, ...more };
}

function running(namespace: string, isRetry = false): RunningPull {
  const reference = `${namespace}-running`;
  return { reference, host: `${reference}.example`, namespace, isRetry };
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

  // Names that hang each time kept the retries of others waiting for ever.
  test("keeps one of the slots for retries from a namespace that has the others", () => {
    const hanging = [running("a", true), { ...running("a", true), reference: "a-other" }];
    const again = aRequest("a", "a1", { isRetry: true });
    const others = aRequest("b", "b1", { isRetry: true });

    assert.equal(next([again], { concurrency: 4, running: hanging }), "nothing");
    assert.equal(next([again, others], { concurrency: 4, running: hanging }), "b1");
    assert.equal(next([others], { concurrency: 3, running: hanging.slice(1) }), "b1");
  });

  test("lets no retries that hang keep the retry of another namespace waiting", () => {
    const concurrency = fc.integer({ min: 3, max: 20 });
    fc.assert(
      fc.property(concurrency, fc.boolean(), (concurrency, isOneHost) => {
        const hanging: RunningPull[] = [];
        const evil = Array.from({ length: 30 }, (_, i) =>
          aRequest("evil", `${i}`, { isRetry: true, ...(isOneHost && { host: "hangs.io" }) }),
        );
        const turn = { running: hanging, concurrency, lastTurns: new Map(), nowMs: 0 };
        for (;;) {
          const { request, namespace } = nextPull(evil, turn) ?? {};
          if (!request || namespace === undefined) break;
          hanging.push({ ...request, namespace });
        }
        const good = aRequest("good", "good", { isRetry: true, host: "hangs.io" });
        assert.equal(nextPull([...evil, good], turn)?.request, good);
      }),
    );
  });

  test("gives a registry that hangs one of two slots, and so keeps its other images waiting", () => {
    const hanging = { ...running("a"), host: "slow.io" };
    const turn = { concurrency: 2, running: [hanging] };

    assert.equal(next([aRequest("b", "b1", { host: "slow.io" })], turn), "nothing");
    assert.equal(next([aRequest("b", "b1")], turn), "b1");
    assert.equal(
      next([aRequest("b", "b1", { isRetry: true })], { ...turn, running: [running("a", true)] }),
      "nothing",
    );
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

  test("gives a registry half of the slots, and at least one", () => {
    const pull = { ...running("a"), host: "slow.io" };
    const waiting = [aRequest("a", "a1", { host: "slow.io" })];

    assert.equal(next(waiting, { concurrency: 4, running: [pull] }), "a1");
    assert.equal(next(waiting, { concurrency: 4, running: [pull, pull] }), "nothing");
    assert.equal(next(waiting, { concurrency: 3, running: [pull] }), "nothing");
    assert.equal(next(waiting, { concurrency: 1 }), "a1");
  });

  test("gives a namespace that has no slot one beyond that half, but not the last one", () => {
    const hanging = { ...running("a"), host: "slow.io" };
    const waiting = [aRequest("b", "b1", { host: "slow.io" })];

    assert.equal(next(waiting, { concurrency: 4, running: [hanging, hanging] }), "b1");
    const other = { ...running("c"), host: "slow.io" };
    assert.equal(next(waiting, { concurrency: 4, running: [hanging, hanging, other] }), "nothing");
  });

  test("lets no registry that hangs keep another one's image waiting", () => {
    // With two slots, one is kept from a namespace, whatever its registries.
    const concurrency = fc.integer({ min: 3, max: 20 });
    const requests = fc.array(
      fc.record({
        namespace: fc.constantFrom("a", "b", "c"),
        priority: fc.integer({ min: -9, max: 9 }),
        isRetry: fc.boolean(),
      }),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(concurrency, requests, (concurrency, requests) => {
        const hanging: RunningPull[] = [];
        const lastTurns = new Map<string, number>();
        const waiting = requests.map(({ namespace, ...more }, index) =>
          aRequest(namespace, `${index}`, { ...more, host: "hangs.io" }),
        );
        const take = (from: PullRequest[]): PullRequest | undefined => {
          const turn = { running: hanging, concurrency, lastTurns, nowMs: 0 };
          const { request, namespace } = nextPull(from, turn) ?? {};
          if (!request || namespace === undefined) return undefined;
          const { reference, host, isRetry } = request;
          hanging.push({ reference, host, namespace, isRetry });
          lastTurns.set(namespace, hanging.length);
          return request;
        };
        while (take(waiting));

        for (const its of Map.groupBy(hanging, ({ namespace }) => namespace).values()) {
          assert.ok(its.length <= concurrency / 2);
        }
        assert.equal(take([...waiting, aRequest("a", "other")])?.reference, "other");
      }),
    );
  });
});
