import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";

import { ManualClock } from "#test/manual-clock.ts";
import type { BudgetExchange, ExchangedBudget } from "./budget-exchange.ts";
import { Budgets, type Entry, type Permit } from "./budget.ts";
import type { Told } from "./rate-limit.ts";

const { signal } = new AbortController();
const anna = { username: "anna", password: "anemone" };
const start = new ManualClock().now().getTime();

function setUp(maxParallel = 16, exchange?: BudgetExchange) {
  const clock = new ManualClock();
  const budgets = new Budgets({
    clock,
    maxParallel,
    random: () => 0,
    ...(exchange && { exchange }),
  });
  const enter = (entry: Partial<Entry> = {}): Promise<Permit> =>
    budgets.enter({
      host: "a.test",
      login: undefined,
      lane: "read",
      counts: true,
      signal,
      ...entry,
    });
  return { clock, budgets, enter };
}

/** Notes in which order permits are given. */
function noting(order: string[], name: string, permit: Promise<Permit>): Promise<Permit> {
  return permit.then((given) => {
    order.push(name);
    return given;
  });
}

function answer(permit: Permit, status: number, headers: Record<string, string> = {}): void {
  permit.answered({ status, header: (name) => headers[name], isThrottled: status === 429 });
  permit[Symbol.dispose]();
}

describe("Budgets", () => {
  test("lets a login that has nothing on its way in where others have taken all", async () => {
    const { enter } = setUp(2);
    const order: string[] = [];
    const blobs = [await enter(), await enter()];
    const waiting = [
      noting(order, "anybody", enter()),
      noting(order, "anna", enter({ login: anna })),
      noting(order, "anna again", enter({ login: anna })),
    ];
    await setImmediate();
    assert.deepEqual(order, ["anna"]);
    for (const blob of blobs) blob[Symbol.dispose]();
    (await waiting[1])?.[Symbol.dispose]();
    await Promise.all(waiting);

    assert.deepEqual(order, ["anna", "anybody", "anna again"]);
  });

  test("lets so many in at once, and the next in the order of coming", async () => {
    const { enter } = setUp(2);
    const order: string[] = [];
    const first = await enter();
    await enter();
    const waiting = ["c", "d"].map((name) => noting(order, name, enter()));
    await setImmediate();
    assert.deepEqual(order, []);

    first[Symbol.dispose]();
    first[Symbol.dispose](); // A second time is without effect.
    await waiting[0];
    await setImmediate();

    assert.deepEqual(order, ["c"]);
  });

  test("bounds reading and writing apart, and does not bound what goes on", async () => {
    const { enter } = setUp(1);
    await enter();

    await enter({ lane: "write" });
    await enter({ isResumed: true });
    await enter({ host: "b.test" });
  });

  test("sends nothing while a budget is spent, and says until when", async () => {
    const { clock, budgets, enter } = setUp();
    const told: (number | undefined)[] = [];
    const order: string[] = [];
    answer(await enter(), 429, { "retry-after": "30" });

    const waiting = noting(order, "a", enter({ onThrottled: (untilMs) => told.push(untilMs) }));
    await clock.advance(29_999);

    assert.deepEqual(order, []);
    assert.deepEqual([...budgets.throttled], [["a.test", start + 30_000]]);
    await clock.advance(1);
    await waiting;
    assert.deepEqual(told, [start + 30_000, undefined]);
    assert.equal(budgets.throttled.size, 0);
    assert.equal(clock.sleeping, 0);
  });

  test("holds up no other login and no other host", async () => {
    const { enter } = setUp();
    answer(await enter(), 429, { "retry-after": "30" });

    await enter({ login: anna });
    await enter({ host: "b.test" });
  });

  test("sends no more than the registry grants, however many are ready", async () => {
    const { clock, enter } = setUp();
    let left = 3;
    let sent = 0;
    const request = async (): Promise<void> => {
      const permit = await enter();
      sent++;
      left--;
      await clock.sleep(1_000, { signal });
      answer(permit, 200, { "ratelimit-remaining": `${left};w=60` });
    };
    await Promise.all([request(), clock.advance(1_000)]);

    const all = Promise.all(Array.from({ length: 4 }, request));
    await clock.advance(58_999);
    assert.equal(sent, 3);
    left = 3;
    await clock.advance(10_000);
    await all;

    assert.equal(sent, 5);
  });

  test("goes on in the order of coming when the time is over", async () => {
    const { clock, enter } = setUp(1);
    const order: string[] = [];
    answer(await enter(), 429, { "retry-after": "30" });

    for (const name of ["a", "b", "c"]) {
      void noting(order, name, enter()).then((permit) => answer(permit, 200));
    }
    await clock.advance(30_000);

    assert.deepEqual(order, ["a", "b", "c"]);
  });

  test("lets go of who is aborted, and of nobody else", async () => {
    const { enter } = setUp(1);
    const stop = new AbortController();
    const first = await enter();
    const aborted = enter({ signal: stop.signal });
    const other = enter();

    stop.abort(new Error("stopped"));

    await assert.rejects(aborted, /^Error: stopped$/);
    first[Symbol.dispose]();
    await other;
    await assert.rejects(enter({ signal: stop.signal }), /^Error: stopped$/);
  });

  test("obeys what the answer to an uncounted request says", async () => {
    const { clock, enter } = setUp();
    answer(await enter({ counts: false }), 429, { "retry-after": "5" });
    const waiting = enter();

    await clock.advance(4_999);
    assert.equal(clock.sleeping, 1);
    await clock.advance(1);

    await waiting;
  });

  test("sends one request alone after a wait, and the others by its answer", async () => {
    const { clock, enter } = setUp();
    answer(await enter(), 429, { "retry-after": "30" });
    const order: string[] = [];
    const first = noting(order, "a", enter());
    for (const name of ["b", "c"]) void noting(order, name, enter());

    await clock.advance(30_000);
    assert.deepEqual(order, ["a"]);

    answer(await first, 200);
    await setImmediate();
    assert.deepEqual(order, ["a", "b", "c"]);
  });

  test("does not wait for an answer that is lost", async () => {
    const { clock, enter } = setUp();
    answer(await enter(), 429, { "retry-after": "30" });
    const [first, ...others] = [enter(), enter(), enter()];
    await clock.advance(30_000);

    (await first)[Symbol.dispose]();

    await Promise.all(others);
  });

  test("tells an exchange what is new, and obeys what it hears there", async () => {
    const { budgets, known, changes, exchange } = anExchange();
    const { clock, enter } = setUp(16, exchange);
    const asAnna = () => enter({ login: anna });
    answer(await asAnna(), 200);
    assert.deepEqual(changes, []);
    answer(await asAnna(), 200, { "ratelimit-remaining": "9;w=60" });
    answer(await asAnna(), 200, { "ratelimit-remaining": "9;w=60" });
    answer(await asAnna(), 429, { "retry-after": "1" });
    assert.deepEqual(changes, ["a.test anna", "a.test anna"]);
    assert.equal(known("a.test anna").left, 9);
    await clock.advance(60_000);
    answer(await asAnna(), 200, { "ratelimit-remaining": "9;w=60" });
    assert.equal(changes.length, 3, "a new window is news, though as many are left");
    const order: string[] = [];

    budgets.get("a.test anna")?.learn({
      heldUntilMs: start + 65_000,
      left: Infinity,
      resetsAtMs: -Infinity,
      toldAtMs: start + 60_000,
    });
    const waiting = noting(order, "anna", asAnna());
    await enter();
    await clock.advance(4_999);

    assert.deepEqual(order, []);
    await clock.advance(1);
    await waiting;
  });

  test("has no more on its way than its share of what is left", async () => {
    const { exchange } = anExchange((left) => Math.floor(left / 2));
    const { clock, enter } = setUp(16, exchange);
    answer(await enter(), 200, { "ratelimit-remaining": "5;w=60" });
    const order: string[] = [];
    const oneLeft = { "ratelimit-remaining": "1;w=60" };
    const [first, second] = [noting(order, "a", enter()), noting(order, "b", enter())];
    const third = noting(order, "c", enter());
    await setImmediate();
    assert.deepEqual(order, ["a", "b"]);

    answer(await first, 200, oneLeft);
    answer(await second, 200, oneLeft);
    await clock.advance(59_999);
    assert.deepEqual(order, ["a", "b"]);
    await clock.advance(1);

    await third;
  });

  test("leaves the exchange when nobody uses a login and nothing is known of it", async () => {
    const { budgets, exchange } = anExchange();
    const { clock, enter } = setUp(16, exchange);
    answer(await enter({ login: anna }), 429, { "retry-after": "30" });
    answer(await enter(), 200);
    assert.deepEqual([...budgets.keys()], ["a.test anna", "a.test anybody"]);

    await clock.advance(30_000);
    answer(await enter({ host: "b.test" }), 200);

    assert.deepEqual([...budgets.keys()], ["b.test anybody"]);
  });
});

/** Notes what budgets tell, and gives them out to be told something. */
function anExchange(shareOf: BudgetExchange["shareOf"] = (left) => left) {
  const budgets = new Map<string, ExchangedBudget>();
  const changes: string[] = [];
  const exchange: BudgetExchange = {
    shareOf,
    join(budget) {
      const { host, login } = budget;
      const name = `${host} ${login && "username" in login ? login.username : "anybody"}`;
      budgets.set(name, budget);
      return {
        changed: () => changes.push(name),
        [Symbol.dispose]: () => budgets.delete(name),
      };
    },
  };
  const known = (name: string): Told => {
    const budget = budgets.get(name);
    assert.ok(budget);
    return budget.known();
  };
  return { budgets, changes, known, exchange };
}
