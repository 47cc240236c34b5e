import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";

import { ManualClock } from "#test/manual-clock.ts";
import { HeldSlots, type SlotStatement, type SlotVerdict } from "./held-slots.ts";
import type { Slot } from "./slots.ts";

const granted: SlotVerdict = { granted: true, retryAfterMs: 0, lost: [] };

/** A controller that grants everything until it is told otherwise. */
class Controller implements AsyncDisposable {
  readonly clock = new ManualClock();
  readonly statements: SlotStatement[] = [];
  answer: (statement: SlotStatement) => Promise<SlotVerdict> = async () => granted;
  readonly slots = new HeldSlots({
    state: async (statement, { signal }) => {
      this.statements.push(statement);
      const verdict = await this.answer(statement);
      signal.throwIfAborted();
      return verdict;
    },
    clock: this.clock,
    monotonicMs: () => this.clock.now().getTime(),
  });

  /** What was said so far, without its number. */
  get said(): Omit<SlotStatement, "sequence">[] {
    return this.statements.map(({ hold, want }) => ({ hold, want }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.slots[Symbol.asyncDispose]();
  }
}

function asSlot(outcome: Slot | { readonly retryAfterMs: number }): Slot {
  assert.ok("lost" in outcome);
  return outcome;
}

describe("HeldSlots", () => {
  test("asks, renews while it holds, and tells when it lets go", async ({ signal }) => {
    await using controller = new Controller();
    const { slots, clock } = controller;
    const slot = asSlot(await slots.acquire(["team/a", "team/b"], { signal }));
    await clock.advance(22_000);
    await slot[Symbol.asyncDispose]();
    await clock.advance(60_000);

    const both = ["team/a", "team/b"];
    assert.deepEqual(controller.said, [
      { hold: [], want: both },
      { hold: both, want: [] },
      { hold: both, want: [] },
      { hold: [], want: [] },
    ]);
    assert.equal(slot.lost.aborted, false);
    const numbers = controller.statements.map(({ sequence }) => sequence);
    assert.deepEqual(
      numbers,
      [...new Set(numbers)].toSorted((a, b) => a - b),
    );
  });

  test("pulls of one plan go on with one slot, until the last ends", async ({ signal }) => {
    await using controller = new Controller();
    const first = asSlot(await controller.slots.acquire(["team/a"], { signal }));
    const second = asSlot(await controller.slots.acquire(["team/a"], { signal }));
    await first[Symbol.asyncDispose]();
    await first[Symbol.asyncDispose]();
    await setImmediate();
    assert.equal(controller.statements.length, 1);
    await second[Symbol.asyncDispose]();
    await setImmediate();
    assert.deepEqual(controller.said.at(-1), { hold: [], want: [] });
  });

  test("asks again after its tenure, and goes on if it may", async ({ signal }) => {
    await using controller = new Controller();
    const { slots, clock } = controller;
    await slots.acquire(["team/a"], { signal });
    await clock.advance(5 * 60_000);
    await slots.acquire(["team/a"], { signal });
    assert.deepEqual(controller.said.at(-1), { hold: ["team/a"], want: ["team/a"] });
    const { length } = controller.statements;
    await slots.acquire(["team/a"], { signal });
    assert.equal(controller.statements.length, length);
  });

  test("does not ask again before the time that it was told", async ({ signal }) => {
    await using controller = new Controller();
    const { slots, clock } = controller;
    controller.answer = async () => ({ granted: false, retryAfterMs: 5_000, lost: [] });
    assert.deepEqual(await slots.acquire(["a", "b"], { signal }), { retryAfterMs: 5_000 });
    await clock.advance(1_000);
    assert.deepEqual(await slots.acquire(["b", "a"], { signal }), { retryAfterMs: 4_000 });
    assert.deepEqual(await slots.acquire(["b"], { signal }), { retryAfterMs: 5_000 });
    assert.equal(controller.statements.length, 2);
    await clock.advance(4_000);
    await slots.acquire(["a", "b"], { signal });
    assert.equal(controller.statements.length, 3);
  });

  test("gives up in time what it cannot renew, though the controller hangs", async ({ signal }) => {
    await using controller = new Controller();
    const { slots, clock } = controller;
    const slot = asSlot(await slots.acquire(["team/a"], { signal }));
    const hanging = Promise.withResolvers<SlotVerdict>();
    controller.answer = async () => hanging.promise;
    await clock.advance(34_999);
    assert.equal(slot.lost.aborted, false);
    await clock.advance(1);
    assert.equal(slot.lost.aborted, true);
    hanging.reject(new Error("away"));
  });

  test("tries again soon when a renewal fails, and so survives a new leader", async ({
    signal,
  }) => {
    await using controller = new Controller();
    const { slots, clock } = controller;
    const slot = asSlot(await slots.acquire(["team/a"], { signal }));
    controller.answer = async () => Promise.reject(new Error("nobody leads"));
    await clock.advance(30_000);
    assert.ok(controller.statements.length >= 8);
    controller.answer = async () => granted;
    await clock.advance(60_000);
    assert.equal(slot.lost.aborted, false);
  });

  test("loses what the controller says is lost, and nothing else", async ({ signal }) => {
    await using controller = new Controller();
    const { slots, clock } = controller;
    const a = asSlot(await slots.acquire(["a"], { signal }));
    const ab = asSlot(await slots.acquire(["a", "b"], { signal }));
    const c = asSlot(await slots.acquire(["c"], { signal }));
    controller.answer = async () => ({ ...granted, lost: ["a"] });
    await clock.advance(12_000);
    assert.deepEqual(
      [a, ab, c].map(({ lost }) => lost.aborted),
      [true, true, false],
    );
    assert.deepEqual(controller.statements.at(-1)?.hold, ["a", "b", "c"]);
    await ab[Symbol.asyncDispose]();
    await setImmediate();
    assert.deepEqual(controller.statements.at(-1)?.hold, ["c"]);
  });

  test("says one thing after the other, each with all that is held by then", async ({ signal }) => {
    await using controller = new Controller();
    const first = Promise.withResolvers<SlotVerdict>();
    controller.answer = async () => first.promise;
    const a = controller.slots.acquire(["a"], { signal });
    const b = controller.slots.acquire(["b"], { signal });
    await setImmediate();
    assert.equal(controller.statements.length, 1);
    first.resolve(granted);
    await Promise.all([a, b]);
    assert.deepEqual(controller.said, [
      { hold: [], want: ["a"] },
      { hold: ["a"], want: ["b"] },
    ]);
  });

  test("lets go what is granted after its asker has left", async ({ signal }) => {
    await using controller = new Controller();
    const late = Promise.withResolvers<SlotVerdict>();
    controller.answer = async () => late.promise;
    const leaver = new AbortController();
    const reason = new Error("not wanted any more");
    const asking = controller.slots.acquire(["a"], { signal: leaver.signal });
    await setImmediate();
    leaver.abort(reason);
    await assert.rejects(asking, (error) => error === reason);
    late.resolve(granted);
    await setImmediate();
    await setImmediate();
    assert.deepEqual(controller.said, [
      { hold: [], want: ["a"] },
      { hold: [], want: [] },
    ]);
    await assert.rejects(controller.slots.acquire(["a"], { signal: AbortSignal.abort(reason) }));
    assert.equal(signal.aborted, false);
  });

  test("passes on why the controller cannot be asked, and asks anew the next time", async ({
    signal,
  }) => {
    await using controller = new Controller();
    const away = new Error("away");
    controller.answer = async () => Promise.reject(away);
    await assert.rejects(controller.slots.acquire(["a"], { signal }), (error) => error === away);
    controller.answer = async () => granted;
    asSlot(await controller.slots.acquire(["a"], { signal }));
  });

  test("lets everything go at its end, and says so", async ({ signal }) => {
    const controller = new Controller();
    const slot = asSlot(await controller.slots.acquire(["a"], { signal }));
    await controller.slots[Symbol.asyncDispose]();
    assert.equal(slot.lost.aborted, true);
    assert.deepEqual(controller.said.at(-1), { hold: [], want: [] });
    await assert.rejects(controller.slots.acquire(["a"], { signal }));
  });
});
