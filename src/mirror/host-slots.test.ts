import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { HostSlots } from "./host-slots.ts";

const target = "target.test";

/** @returns how many tags of a source's host may enter. */
async function takeAll(
  slots: HostSlots,
  source: string,
  signal: AbortSignal,
  parties: readonly string[] = [],
): Promise<number> {
  let entered = 0;
  for (let asked = 0; asked < 100; asked++) {
    const count = (): number => entered++;
    void slots.acquire({ source, target, parties }, { signal }).then(count, count);
  }
  await new Promise(setImmediate);
  return entered;
}

describe("HostSlots", () => {
  test("lets others pass whoever waits for a busy host, and keeps the order otherwise", async ({
    signal,
  }) => {
    const slots = new HostSlots({ total: 3, perSource: 1, perTarget: 3 });
    const entered: string[] = [];
    const enter = async (name: string, source: string): Promise<Disposable> => {
      const slot = await slots.acquire({ source, target, parties: [] }, { signal });
      entered.push(name);
      return slot;
    };
    const first = await enter("a1", "a");
    const waiting = [enter("a2", "a"), enter("a3", "a"), enter("b1", "b")];
    await waiting[2];
    assert.deepEqual(entered, ["a1", "b1"]);
    first[Symbol.dispose]();
    const second = await waiting[0];
    second?.[Symbol.dispose]();
    await waiting[1];

    assert.deepEqual(entered, ["a1", "b1", "a2", "a3"]);
  });

  test("keeps room for a source's host when two slow ones have taken what they may", async ({
    signal,
  }) => {
    const slots = new HostSlots();
    const held = ["slow", "slower"].map((source) => takeAll(slots, source, signal));
    const [slow, slower] = await Promise.all(held);

    assert.ok(slow === slower && slow !== undefined && slow <= 16);
    await slots.acquire({ source: "fast", target, parties: [] }, { signal });
  });

  test("lets a source's host that has nothing under way in where all is taken, within reason", async ({
    signal,
  }) => {
    const slots = new HostSlots({ total: 4 });
    for (const source of ["a", "b", "c", "d", "e", "f", "g", "h"]) {
      assert.equal(await takeAll(slots, source, signal), 1);
    }

    assert.equal(await takeAll(slots, "i", signal), 0);
  });

  test("takes no room from others for tags whose registry wants to be left alone", async ({
    signal,
  }) => {
    const slots = new HostSlots();
    const sources = Array.from({ length: 8 }, (_, index) => `spent${index}`);
    const holds = sources.map((source) => [slots.hold(source), slots.hold(source)] as const);
    for (const source of sources) assert.equal(await takeAll(slots, source, signal), 16);
    assert.equal(await takeAll(slots, "healthy", signal), 16);
    for (const [one, other] of holds) {
      one[Symbol.dispose]();
      other[Symbol.dispose]();
    }

    assert.equal(await takeAll(slots, "another", signal), 0, "they count again");
  });

  test("lets others in as soon as a registry wants to be left alone", async ({ signal }) => {
    const slots = new HostSlots({ total: 4 });
    for (const source of ["a", "b", "c", "d", "e", "f", "g", "h"]) {
      await takeAll(slots, source, signal);
    }
    const waiting = slots.acquire({ source: "i", target, parties: [] }, { signal });
    using _hold = slots.hold("a");

    await waiting;
  });

  test("lets a party that has nothing under way at a busy host in, and each within its namespace", async ({
    signal,
  }) => {
    const slots = new HostSlots({ perSource: 2 });
    const enter = async (...parties: string[]): Promise<number> =>
      takeAll(slots, "hub", signal, parties);

    assert.equal(await enter("greedy", "greedy/a"), 2);
    assert.equal(await enter("greedy", "greedy/b"), 1);
    assert.equal(await enter("greedy", "greedy/c"), 1);
    assert.equal(await enter("greedy", "greedy/d"), 0, "the namespace has filled the bound twice");
    assert.equal(await enter("modest", "modest/a"), 1);
  });

  test("keeps slots for blobs as long as somebody holds them", () => {
    const slots = new HostSlots();
    const ofHub = slots.blobSlots("hub");

    assert.equal(slots.blobSlots("hub"), ofHub);
    assert.notEqual(slots.blobSlots("other"), ofHub);
  });

  test("gives nothing to a waiter that was aborted", async ({ signal }) => {
    const slots = new HostSlots({ perSource: 1 });
    const hosts = { source: "a", target, parties: [] };
    const held = await slots.acquire(hosts, { signal });
    const stop = new AbortController();
    const reason = new Error("enough");
    const quitter = slots.acquire(hosts, { signal: stop.signal });
    const patient = slots.acquire(hosts, { signal });
    stop.abort(reason);
    await assert.rejects(quitter, (error) => error === reason);
    held[Symbol.dispose]();

    (await patient)[Symbol.dispose]();
    assert.equal(await takeAll(slots, "a", signal), 1);
  });

  test("takes no longer for each of many waiters than for a few", async ({ signal }) => {
    const slots = new HostSlots();
    const started = performance.now();
    await Promise.all(
      Array.from({ length: 10_000 }, async () => {
        using _slot = await slots.acquire({ source: "a", target, parties: [] }, { signal });
        await Promise.resolve();
      }),
    );

    assert.ok(performance.now() - started < 10_000);
  });
});
