import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { slotMs, SlotTable, tenureMs, type SlotAnswer, type SlotLimit } from "./slot-table.ts";

/** How long an agent believes that it holds what it cannot renew (src/agent/held-slots.ts). */
const keptMs = 35_000;

/** An agent as src/agent/held-slots.ts is one: it tells the truth, and gives up in time. */
class TruthfulAgent {
  readonly node: string;
  readonly #held = new Set<string>();
  #heardMs = 0;
  #sequence = 0;

  constructor(node: string) {
    this.node = node;
  }

  held(nowMs: number): ReadonlySet<string> {
    if (nowMs >= this.#heardMs + keptMs) this.#held.clear();
    return this.#held;
  }

  release(plan: string): void {
    this.#held.delete(plan);
  }

  ask(table: SlotTable, want: readonly string[], limitOf: SlotLimit, nowMs: number): SlotAnswer {
    const hold = [...this.held(nowMs)];
    const request = { node: this.node, want, hold, sequence: ++this.#sequence };
    const answer = table.ask(request, limitOf, nowMs);
    assert.ok(answer);
    this.#heardMs = nowMs;
    for (const plan of answer.lost) this.#held.delete(plan);
    if (answer.granted) for (const plan of want) this.#held.add(plan);
    return answer;
  }
}

/** A table that has led for long enough to grant. */
function aTable(): SlotTable {
  return new SlotTable(-slotMs);
}

function agentsOf(count: number): TruthfulAgent[] {
  return Array.from({ length: count }, (_, index) => new TruthfulAgent(`node${index}`));
}

const one: SlotLimit = () => 1;
const none: SlotLimit = () => undefined;

describe("SlotTable", () => {
  test("never lets more nodes hold a slot than may, over changes of the leader and lost agents", () => {
    const plan = fc.constantFrom("a", "b", "c");
    const agent = fc.nat({ max: 5 });
    const step = fc.oneof(
      fc.record({
        kind: fc.constant("want"),
        agent,
        plans: fc.uniqueArray(plan, { minLength: 1 }),
      }),
      fc.record({ kind: fc.constant("release"), agent, plan }),
      fc.record({ kind: fc.constant("cut"), agent }),
      fc.record({ kind: fc.constant("mend"), agent }),
      fc.record({ kind: fc.constant("pass"), ms: fc.integer({ min: 1, max: 12_000 }) }),
      fc.record({ kind: fc.constant("newLeader"), gapMs: fc.nat({ max: 20_000 }) }),
    );
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 120, size: "max" }),
        fc.record({ a: fc.integer({ min: 1, max: 3 }), b: fc.constant(1), c: fc.constant(2) }),
        (steps, limits) => {
          const limitOf: SlotLimit = (key) => Object.entries(limits).find(([k]) => k === key)?.[1];
          const agents = agentsOf(6);
          const cut = new Set<TruthfulAgent>();
          let table = aTable();
          let nowMs = 0;
          let renewMs = 0;
          const check = (): void => {
            for (const [plan, limit] of Object.entries(limits)) {
              const holders = agents.filter((each) => each.held(nowMs).has(plan));
              assert.ok(holders.length <= limit, `${holders.length} hold ${plan}`);
            }
          };
          const pass = (ms: number): void => {
            nowMs += ms;
            check();
            if (nowMs < renewMs) return;
            renewMs = nowMs + 10_000;
            for (const each of agents) if (!cut.has(each)) each.ask(table, [], limitOf, nowMs);
          };
          for (const step of steps) {
            const each = "agent" in step ? agents[step.agent] : undefined;
            if (step.kind === "cut" && each) cut.add(each);
            if (step.kind === "mend" && each) cut.delete(each);
            if (step.kind === "release" && each && "plan" in step) each.release(step.plan);
            if (step.kind === "want" && each && !cut.has(each) && "plans" in step) {
              each.ask(table, step.plans, limitOf, nowMs);
            }
            if (step.kind === "pass" && "ms" in step) pass(step.ms);
            if (step.kind === "newLeader" && "gapMs" in step) {
              nowMs += step.gapMs; // Nobody is answered meanwhile.
              table = new SlotTable(nowMs);
            }
            check();
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  test("serves everybody who waits, in the order in which they came", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 4 }),
        fc.array(fc.uniqueArray(fc.constantFrom("a", "b"), { minLength: 1 }), {
          minLength: 2,
          maxLength: 30,
        }),
        (limit, wants) => {
          const table = aTable();
          const limitOf: SlotLimit = () => limit;
          const agents = agentsOf(wants.length);
          const dueMs = agents.map((_, index) => index);
          const doneMs = new Map<number, number>();
          const served: number[] = [];
          for (let nowMs = 0; nowMs < 3_600_000 && served.length < agents.length; nowMs += 500) {
            for (const [index, agent] of agents.entries()) {
              const want = wants[index] ?? [];
              const endMs = doneMs.get(index);
              if (endMs !== undefined && endMs > nowMs) agent.ask(table, [], limitOf, nowMs);
              else if (endMs !== undefined && agent.held(nowMs).size > 0) {
                for (const plan of want) agent.release(plan);
                agent.ask(table, [], limitOf, nowMs);
              } else if (endMs === undefined && nowMs >= (dueMs[index] ?? 0)) {
                const { granted, retryAfterMs } = agent.ask(table, want, limitOf, nowMs);
                dueMs[index] = nowMs + retryAfterMs;
                if (granted) served.push(index);
                if (granted) doneMs.set(index, nowMs + 20_000);
              }
            }
          }
          for (const key of ["a", "b"] as const) {
            const ofKey = served.filter((index) => wants[index]?.includes(key));
            const latest = ofKey.map((index, place) => ({ index, place }));
            assert.equal(ofKey.length, wants.filter((want) => want.includes(key)).length);
            // Those who can be served at once may pass each other, but nobody is left behind.
            for (const { index, place } of latest) {
              const passedBy = ofKey.slice(0, place).filter((other) => other > index);
              assert.ok(passedBy.length <= limit, `node${index} was passed by ${passedBy.length}`);
            }
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test("frees the slot of a silent holder within a minute", () => {
    const table = aTable();
    const [silent, next] = agentsOf(2);
    assert.ok(silent && next);
    assert.ok(silent.ask(table, ["a"], one, 0).granted);
    let nowMs = 0;
    for (;;) {
      const { granted, retryAfterMs } = next.ask(table, ["a"], one, nowMs);
      if (granted) break;
      nowMs += retryAfterMs * 2; // As late as agents come at the latest.
    }
    assert.ok(nowMs >= slotMs && nowMs < 60_000, `${nowMs} ms`);
    assert.deepEqual(silent.ask(table, [], one, nowMs).lost, []);
  });

  test("frees at once what an agent no longer says it holds", () => {
    const table = aTable();
    const [first, second] = agentsOf(2);
    assert.ok(first && second);
    first.ask(table, ["a", "b"], one, 0);
    assert.equal(second.ask(table, ["a"], one, 1).granted, false);
    first.release("a");
    first.ask(table, [], one, 2);
    assert.equal(second.ask(table, ["a"], one, 3).granted, true);
    assert.equal(table.holding("b"), 1);
  });

  test("tells an agent what it lost", () => {
    const table = aTable();
    table.ask({ node: "x", want: ["a", "b"], hold: [], sequence: 1 }, one, 0);
    const lateMs = slotMs + 1;
    assert.ok(table.ask({ node: "y", want: ["a"], hold: [], sequence: 1 }, one, lateMs)?.granted);
    const request = { node: "x", want: [], hold: ["a", "b"], sequence: 2 };
    assert.deepEqual(table.ask(request, one, lateMs)?.lost, ["a", "b"]);
  });

  test("gives all slots that are wanted or none, and holds none back meanwhile from who is in front", () => {
    const table = aTable();
    const [x, y, z] = agentsOf(3);
    assert.ok(x && y && z);
    x.ask(table, ["a"], one, 0);
    assert.equal(y.ask(table, ["a", "b"], one, 1).granted, false);
    assert.equal(table.holding("b"), 0);
    assert.equal(z.ask(table, ["b"], one, 2).granted, false, "it would pass who is in front");
    x.release("a");
    x.ask(table, [], one, 3);
    assert.equal(y.ask(table, ["a", "b"], one, 4).granted, true);
  });

  test("a claim that is not repeated leaves the line", () => {
    const table = aTable();
    const [x, y, z] = agentsOf(3);
    assert.ok(x && y && z);
    x.ask(table, ["a"], one, 0);
    y.ask(table, ["a"], one, 0);
    x.release("a");
    x.ask(table, [], one, 1);
    assert.equal(z.ask(table, ["a"], one, 2).granted, false);
    assert.equal(z.ask(table, ["a"], one, 20_000).granted, true);
    assert.equal(table.waiting, 0);
  });

  test("a new leader grants nothing for the length of a slot, and believes who holds, up to the limit", () => {
    const table = new SlotTable(1_000_000);
    const ask = (
      node: string,
      hold: string[],
      want: string[],
      afterMs: number,
    ): SlotAnswer | undefined =>
      table.ask({ node, hold, want, sequence: afterMs + 1 }, () => 2, 1_000_000 + afterMs);
    assert.deepEqual(ask("new", [], ["a"], 0)?.granted, false);
    assert.deepEqual(ask("x", ["a"], [], 10)?.lost, []);
    assert.deepEqual(ask("y", ["a"], [], 20)?.lost, []);
    assert.deepEqual(ask("z", ["a"], [], 30)?.lost, ["a"]);
    for (const ms of [10_000, 20_000, 30_000, slotMs]) {
      ask("x", ["a"], [], ms);
      ask("new", [], ["a"], ms);
    }
    assert.equal(ask("new", [], ["a"], slotMs + 1_000)?.granted, true, "y was not heard of again");
    assert.deepEqual(ask("late", ["a"], [], slotMs + 2_000)?.lost, ["a"]);
  });

  test("does not listen to what was overtaken", () => {
    const table = aTable();
    table.ask({ node: "x", want: ["a"], hold: [], sequence: 7 }, one, 0);
    assert.equal(table.ask({ node: "x", want: [], hold: [], sequence: 6 }, one, 1), undefined);
    assert.equal(table.holding("a"), 1);
    // An agent that began anew with its clock set back is heard when its old slots have run out.
    const lateMs = slotMs + 1_000;
    assert.ok(table.ask({ node: "x", want: ["a"], hold: [], sequence: 1 }, one, lateMs)?.granted);
  });

  test("a node that goes on from image to image gives way after its tenure, and not before", () => {
    const table = aTable();
    const [x, y] = agentsOf(2);
    assert.ok(x && y);
    for (let nowMs = 0; nowMs < tenureMs; nowMs += 5_000) {
      assert.ok(x.ask(table, ["a"], one, nowMs).granted);
      y.ask(table, ["a"], one, nowMs + 1);
    }
    assert.equal(x.ask(table, ["a"], one, tenureMs).granted, false, "it is another's turn");
    x.release("a");
    x.ask(table, ["a"], one, tenureMs + 1);
    assert.equal(y.ask(table, ["a"], one, tenureMs + 2).granted, true);
    y.release("a");
    y.ask(table, [], one, tenureMs + 3);
    for (let nowMs = tenureMs + 4; nowMs < 4 * tenureMs; nowMs += 5_000) {
      assert.ok(x.ask(table, ["a"], one, nowMs).granted, "while nobody else wants it, it goes on");
    }
  });

  test("grants nothing where nothing is bounded, and takes nothing from those who hold", () => {
    const table = aTable();
    const [x] = agentsOf(1);
    assert.ok(x);
    x.ask(table, ["a"], one, 0);
    assert.deepEqual(x.ask(table, [], none, 1).lost, []);
    assert.equal(x.ask(table, ["b"], none, 2).granted, false);
    assert.equal(table.waiting, 0);
  });

  test("a thousand waiting agents ask less than once in five seconds each", () => {
    const table = aTable();
    const agents = agentsOf(1_001);
    agents[1_000]?.ask(table, ["a"], one, 0);
    let asked = 0;
    const dueMs = agents.map(() => 0);
    for (let nowMs = 0; nowMs < 120_000; nowMs += 100) {
      if (nowMs % 10_000 === 0) agents[1_000]?.ask(table, [], one, nowMs);
      for (const [index, agent] of agents.slice(0, 1_000).entries()) {
        if (nowMs < (dueMs[index] ?? 0)) continue;
        dueMs[index] = nowMs + agent.ask(table, ["a"], one, nowMs).retryAfterMs;
        asked++;
      }
    }
    assert.ok(asked / 120 < 120, `${asked} in two minutes`);
  });

  test("has a bound for those who wait, in all and of one node", () => {
    const table = aTable();
    table.ask({ node: "x", want: ["p"], hold: [], sequence: 1 }, one, 0);
    for (let i = 0; i < 100; i++) {
      table.ask({ node: "y", want: ["p", `p${i}`], hold: [], sequence: i + 1 }, one, 0);
    }
    assert.equal(table.waiting, 32);
    for (let i = 0; i < 21_000; i++) {
      table.ask({ node: `n${i}`, want: ["p"], hold: [], sequence: 1 }, one, 0);
    }
    assert.equal(table.waiting, 20_000);
  });
});
