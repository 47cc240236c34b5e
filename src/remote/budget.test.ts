import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";

import { ManualClock } from "#test/manual-clock.ts";
import { Budgets, type Entry, type Permit, type Told } from "./budget.ts";

const { signal } = new AbortController();
const anna = { username: "anna", password: "anemone" };
const start = new ManualClock().now().getTime();

function setUp(maxParallel = 16) {
  const clock = new ManualClock();
  const budgets = new Budgets({ clock, maxParallel, random: () => 0 });
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

  test("shares what one process is told with another", async () => {
    const told: Told[] = [];
    const clock = new ManualClock();
    const here = new Budgets({
      clock,
      onTold: (account, what) => {
        assert.deepEqual(account, { host: "a.test", login: anna });
        told.push(what);
      },
    });
    const { enter, budgets } = setUp();
    const entry = { host: "a.test", login: anna, lane: "read", counts: true, signal } as const;
    answer(await here.enter(entry), 200, { "ratelimit-remaining": "1;w=60" });
    answer(await here.enter(entry), 200, { "ratelimit-remaining": "1;w=60" });
    answer(await here.enter(entry), 429, { "retry-after": "30" });

    for (const what of told) budgets.learn({ host: "a.test", login: anna }, what);

    assert.equal(told.length, 2);
    const waiting = enter({ login: anna });
    waiting.catch(() => {});
    await enter();
    assert.deepEqual([...budgets.throttled], [["a.test", start + 30_000]]);
  });
});
