import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { LookupTurns, type Asking } from "./lookup-turns.ts";

describe("LookupTurns", () => {
  test("leaves half of a host to other namespaces", () => {
    const turns = new LookupTurns(() => {});
    const enter = (namespace: string): boolean =>
      turns.enter(`${namespace} ${Math.random()}`, { host: "r.io", namespace }) !== undefined;
    const greedy = Array.from({ length: 20 }, () => enter("greedy"));

    assert.equal(greedy.filter(Boolean).length, 4);
    assert.equal(enter("modest"), true);
  });

  test("calls the namespaces in turn", () => {
    const called: string[] = [];
    const turns = new LookupTurns((work) => called.push(work));
    const held = ["a", "b"].flatMap((namespace) =>
      Array.from({ length: 4 }, (_, index) =>
        turns.enter(`${namespace}${index}`, { host: "r.io", namespace }),
      ),
    );
    for (const work of ["a5", "a6", "b5"]) {
      turns.enter(work, { host: "r.io", namespace: work.slice(0, 1) });
    }
    held[0]?.[Symbol.dispose]();
    turns.enter("a5", { host: "r.io", namespace: "a" })?.[Symbol.dispose]();

    assert.deepEqual(called, ["a5", "a6"]);
    held[4]?.[Symbol.dispose]();
    assert.deepEqual(called, ["a5", "a6", "b5"]);
  });

  test("ends all work, whatever order turns end in, within the bounds", () => {
    const asking: fc.Arbitrary<Asking> = fc.record({
      host: fc.constantFrom("h1", "h2"),
      namespace: fc.constantFrom("n1", "n2", "n3"),
    });
    fc.assert(
      fc.property(
        fc.array(asking, { maxLength: 80 }),
        fc.infiniteStream(fc.nat()),
        (all, picks) => {
          const queue = [...all.keys()].map(String);
          const turns = new LookupTurns((work) => queue.push(work));
          const running: { turn: Disposable; asking: Asking }[] = [];
          let done = 0;
          while (queue.length > 0 || running.length > 0) {
            for (const work of queue.splice(0)) {
              const who = all[Number(work)] ?? { host: "", namespace: "" };
              const turn = turns.enter(work, who);
              if (turn) running.push({ turn, asking: who });
            }
            for (const host of ["h1", "h2"]) {
              const here = running.filter(({ asking: { host: at } }) => at === host);
              assert.ok(here.length <= 8);
              for (const names of Map.groupBy(here, (one) => one.asking.namespace).values()) {
                assert.ok(names.length <= 4);
              }
            }
            const pick = (picks.next().value ?? 0) % Math.max(running.length, 1);
            const [ended] = running.splice(pick, 1);
            ended?.turn[Symbol.dispose]();
            done++;
          }
          assert.equal(done, Math.max(all.length, done === 0 ? 0 : all.length));
        },
      ),
    );
  });
});
