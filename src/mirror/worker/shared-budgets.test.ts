import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { registryBudgets } from "#api/v1/resources.ts";
import type { Permit } from "#remote/budget.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { settle, SharingWorker } from "#test/sharing-worker.ts";
import type { SharedBudgetsOptions } from "./shared-budgets.ts";

const anna = { username: "anna", password: "anemone" };
const ben = { username: "ben", password: "barnacle" };
const start = new ManualClock().now().getTime();
const time = (seconds: number): string => new Date(start + seconds * 1_000).toISOString();

/** Workers called `a`, `b` and so on, and the API server that they share. */
async function setUp(count: number, options: Partial<SharedBudgetsOptions> = {}) {
  const stack = new AsyncDisposableStack();
  const clock = new ManualClock();
  const server = stack.use(await FakeApiServer.start({ resources: [registryBudgets] }));
  const members = new Set(["a", "b", "c", "d"].slice(0, count));
  const membership = { members };
  const begin = async (identity: string): Promise<SharingWorker> =>
    stack.use(await SharingWorker.start(server, { clock, membership, identity, ...options }));
  const workers: SharingWorker[] = [];
  for (const member of members) workers.push(await begin(member));
  const [a, b = a] = workers;
  assert.ok(a && b);
  return {
    a,
    b,
    workers,
    clock,
    server,
    begin,
    /** Moves time on by seconds, in steps in which everybody hears of everything. */
    async pass(seconds: number, step = 0.5) {
      await settle(workers);
      for (let passed = 0; passed < seconds; passed += step) {
        await clock.advance(Math.min(step, seconds - passed) * 1_000);
        await settle(workers);
      }
    },
    get writes() {
      return server.requests.flatMap(({ method }) => (method === "GET" ? [] : method));
    },
    get shared() {
      return server.list(registryBudgets).map((object) => registryBudgets.parse(object));
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

function answer(permit: Permit, status: number, headers: Record<string, string> = {}): void {
  permit.answered({ status, header: (name) => headers[name], isThrottled: status === 429 });
  permit[Symbol.dispose]();
}

/** Notes when a permit is given. */
function noting(order: string[], name: string, permit: Promise<Permit>): void {
  permit.then(
    () => order.push(name),
    () => {}, // The test is over.
  );
}

const left = (count: number, seconds = 60) => ({
  "ratelimit-remaining": String(count),
  "ratelimit-reset": String(seconds),
});

describe("SharedBudgets", () => {
  test("holds back all workers when one is told to wait, and no other login", async () => {
    await using world = await setUp(3);
    const { a, b, clock } = world;
    answer(await b.enter({ login: anna }), 200);
    answer(await a.enter({ login: anna }), 429, { "retry-after": "30" });
    await settle(world.workers);
    const order: string[] = [];

    noting(order, "anna", b.enter({ login: anna }));
    await b.enter({ login: ben });
    await b.enter({ login: undefined });
    await clock.advance(29_999);

    assert.deepEqual(order, []);
    assert.deepEqual([...b.budgets.throttled], [["hub.test", start + 30_000]]);
    await clock.advance(1);
    assert.deepEqual(order, ["anna"]);
    assert.deepEqual(world.writes, ["POST"]);
  });

  test("tells a worker that comes later", async () => {
    await using world = await setUp(1);
    answer(await world.a.enter(), 200, left(0));
    await settle(world.workers);
    const late = await world.begin("b");
    const order: string[] = [];

    answer(await late.enter({ counts: false }), 200);
    noting(order, "late", late.enter());
    await settle([late]);
    await world.clock.advance(59_999);

    assert.deepEqual(order, []);
    await world.clock.advance(1);
    assert.deepEqual(order, ["late"]);
  });

  test("writes nothing for registries that do not limit, or grant plenty", async () => {
    await using world = await setUp(2);

    answer(await world.a.enter(), 200);
    answer(await world.a.enter(), 200, left(5_000));
    answer(await world.a.enter(), 503);
    await world.pass(5);

    assert.deepEqual(world.writes, []);
  });

  test("writes what is left every other second, and at once when nothing is", async () => {
    await using world = await setUp(1);
    const { a } = world;
    for (let count = 16; count > 0; count--) {
      answer(await a.enter(), 200, left(count));
      await world.pass(0.5);
    }
    assert.deepEqual(world.writes, ["POST", "PUT", "PUT", "PUT", "PUT"]);

    answer(await a.enter(), 200, left(0));
    await settle(world.workers);

    assert.equal(world.writes.length, 6);
    assert.deepEqual(world.shared[0]?.spec, {
      host: "hub.test",
      left: 0,
      resetTime: time(68),
      toldTime: time(8),
    });
  });

  test("divides what is left, and takes half of its part at a time", async () => {
    await using world = await setUp(3);
    const order: string[] = [];
    for (const worker of world.workers) answer(await worker.enter({ counts: false }), 200);
    answer(await world.a.enter(), 200, left(12));
    await settle(world.workers);

    for (const [index, worker] of world.workers.entries()) {
      for (const number of [1, 2, 3]) noting(order, `${index}.${number}`, worker.enter());
    }
    await settle(world.workers);

    assert.deepEqual(order, ["0.1", "0.2", "1.1", "1.2", "2.1", "2.2"]);
  });

  test("writes once when all are refused at the same time", async () => {
    await using world = await setUp(3);
    const permits = await Promise.all(world.workers.map((worker) => worker.enter()));
    for (const permit of permits) answer(permit, 429, { "retry-after": "30" });
    await world.pass(10);

    assert.equal(world.shared.length, 1);
    assert.deepEqual(world.writes, ["POST", "POST", "POST"], "of which one was first");
  });

  test("says so again when the API server was away", async () => {
    await using world = await setUp(2);
    const order: string[] = [];
    answer(await world.b.enter(), 200);
    world.server.fail({ status: 503, times: 2, matching: ({ method }) => method === "POST" });
    answer(await world.a.enter(), 429, { "retry-after": "30" });
    await world.pass(6);

    noting(order, "b", world.b.enter());
    await world.pass(1);

    assert.equal(world.shared.length, 1);
    assert.deepEqual(order, []);
  });

  test("deletes what is over, whoever wrote it", async () => {
    await using world = await setUp(2);
    for (const [name, heldUntil] of [
      ["gone", time(10)],
      ["kept", time(600)],
    ]) {
      world.server.create(registryBudgets, {
        metadata: { name, namespace: "coral-system" },
        spec: { host: "other.test", heldUntil, toldTime: time(0) },
      });
    }

    await world.pass(69, 3);
    assert.equal(world.shared.length, 2);
    await world.pass(3);

    assert.deepEqual(
      world.shared.map(({ metadata }) => metadata.name),
      ["kept"],
    );
    assert.ok(world.writes.length <= 2);
  });

  test("deletes what never held, and obeys nothing of it", async () => {
    await using world = await setUp(1);
    const far = "9999-12-31T23:59:59Z";
    const specs = [
      { host: "hub.test", left: 0, resetTime: far, toldTime: far },
      { host: "hub.test", left: 0, resetTime: "soon", toldTime: "now" },
      { host: "hub.test", heldUntil: "-000001-01-01T00:00:00Z", toldTime: time(0) },
    ];
    for (const [index, spec] of specs.entries()) {
      const metadata = { name: ["hub.test.anybody", "x", "y"][index], namespace: "coral-system" };
      world.server.create(registryBudgets, { metadata, spec });
    }
    await settle(world.workers);
    answer(await world.a.enter(), 200);
    await world.pass(0.5);

    answer(await world.a.enter(), 200);
    assert.deepEqual(world.shared, []);
  });

  test("bounds what a registry says by what a window can last", async () => {
    await using world = await setUp(2);
    const absurd = [
      { "retry-after": "99999999999999999999" },
      { "retry-after": "NaN" },
      { "retry-after": "-5" },
      { "retry-after": "Fri, 31 Dec 9999 23:59:59 GMT" },
      { "ratelimit-remaining": "-1", "ratelimit-reset": "1e99" },
      { "ratelimit-remaining": "0", "ratelimit-reset": "999999999999999" },
      { ratelimit: "limit=NaN, remaining=0, reset=-1" },
    ];
    for (const [index, headers] of absurd.entries()) {
      answer(await world.a.enter({ host: `${index}.test` }), 429, headers);
    }
    await settle(world.workers);

    for (const { spec } of world.shared) {
      const { heldUntil = time(0), resetTime = time(0) } = Object(spec);
      for (const text of [heldUntil, resetTime]) {
        assert.ok(Date.parse(text) <= start + 6 * 3_600_000, JSON.stringify(spec));
      }
    }
    assert.ok(world.shared.length > 0);
  });

  test("keeps so many objects and no more, those that were written last", async () => {
    await using world = await setUp(1, { maxObjects: 3 });
    for (const number of [1, 2, 3, 4, 5]) {
      answer(await world.a.enter({ host: `${number}.test` }), 429, { "retry-after": "30" });
      await settle(world.workers);
    }

    assert.deepEqual(
      world.shared.map(({ metadata }) => metadata.name),
      ["3.test.anybody", "4.test.anybody", "5.test.anybody"],
    );
  });

  test("writes no more often than twice a second, however many hosts refuse", async () => {
    await using world = await setUp(1);
    for (let number = 0; number < 60; number++) {
      answer(await world.a.enter({ host: `${number}.test` }), 429, { "retry-after": "900" });
    }
    await settle(world.workers);
    assert.equal(world.writes.length, 20);

    await world.pass(10);

    assert.equal(world.writes.length, 40);
  });
});
