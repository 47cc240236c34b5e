import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Semaphore } from "./semaphore.ts";
import { TaskGroup } from "./task-group.ts";

test("one failure aborts the others, and leaving waits for them", async ({ signal }) => {
  const boom = new Error("boom");
  let stopped: unknown;
  await assert.rejects(async () => {
    await using group = new TaskGroup(signal);
    await Promise.all([
      group.run(async (s) => {
        try {
          await sleep(10_000, undefined, { signal: s });
        } catch (e) {
          await sleep(5);
          stopped = e instanceof Error && e.cause;
          throw e;
        }
      }),
      group.run(async () => {
        throw boom;
      }),
    ]);
  }, boom);
  assert.equal(stopped, boom);
});
test("leaving early aborts what is left", async ({ signal }) => {
  let settled = false;
  {
    await using group = new TaskGroup(signal);
    void group
      .run((s) => sleep(10_000, undefined, { signal: s }))
      .catch(() => {
        settled = true;
      });
  }
  assert.ok(settled);
});
test("a semaphore admits in order, frees on dispose, and forgets an aborted waiter", async ({
  signal,
}) => {
  const slots = new Semaphore(1);
  const order: number[] = [];
  const first = await slots.acquire({ signal });
  const ac = new AbortController();
  const quitter = slots.acquire({ signal: ac.signal });
  const second = slots.acquire({ signal }).then((s) => {
    order.push(2);
    s[Symbol.dispose]();
  });
  ac.abort(new Error("quit"));
  await assert.rejects(quitter, { message: "quit" });
  order.push(1);
  first[Symbol.dispose]();
  await second;
  assert.deepEqual(order, [1, 2]);
  using _again = await slots.acquire({ signal });
});
test("every task rejects with what went wrong first, unwrapped", async ({ signal }) => {
  const boom = new Error("boom");
  await using group = new TaskGroup(signal);
  const sleeper = group.run((s) => sleep(10_000, undefined, { signal: s }));
  const failer = group.run(async () => {
    await sleep(1);
    throw boom;
  });
  const [a, b] = await Promise.allSettled([sleeper, failer]);
  assert.equal(a.status === "rejected" && a.reason, boom);
  assert.equal(b.status === "rejected" && b.reason, boom);
});
test("the caller's abort reaches the caller as its own reason", async () => {
  const caller = new AbortController();
  await using group = new TaskGroup(caller.signal);
  const sleeper = group.run((s) => sleep(10_000, undefined, { signal: s }));
  const reason = new Error("stop");
  caller.abort(reason);
  await assert.rejects(sleeper, (e) => e === reason);
});
