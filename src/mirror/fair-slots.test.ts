import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { FairSlots } from "./fair-slots.ts";

/** @returns those that are inside of all that asked, in the order they came. */
async function whoEnters(
  slots: FairSlots,
  asking: readonly (readonly string[])[],
  signal: AbortSignal,
): Promise<string[]> {
  const inside: string[] = [];
  for (const parties of asking) {
    const enter = (): number => inside.push(parties.join(" "));
    void slots.acquire({ parties, signal }).then(enter, () => 0);
  }
  await new Promise(setImmediate);
  return inside;
}

describe("FairSlots", () => {
  test("lets no more in than there are slots, in the order they came", async ({ signal }) => {
    const slots = new FairSlots(2);
    const first = await slots.acquire({ parties: ["a"], signal });
    assert.deepEqual(await whoEnters(slots, [["a"], ["a"], ["a"]], signal), ["a"]);
    const later = slots.acquire({ parties: ["a"], signal });
    first[Symbol.dispose]();
    const isInside = await Promise.race([later.then(() => true), new Promise(setImmediate)]);

    assert.notEqual(isInside, true, "two came before it");
  });

  test("lets in who has nothing inside, though all is taken", async ({ signal }) => {
    const slots = new FairSlots(2);
    const entered = await whoEnters(
      slots,
      [["a"], ["a"], ["a"], ["b"], ["b"], ["c"], ["d"]],
      signal,
    );

    assert.deepEqual(entered, ["a", "a", "b", "c"]);
  });

  test("lets a small party of a new large one in, when small ones of another have filled it twice", async ({
    signal,
  }) => {
    const slots = new FairSlots(1);
    const asking = ["1", "2", "3"].map((mirror) => ["greedy", mirror]);
    const entered = await whoEnters(slots, [...asking, ["modest", "1b"], ["modest", "2b"]], signal);

    assert.deepEqual(entered, ["greedy 1", "greedy 2", "modest 1b"]);
  });

  test("gives nothing to a waiter that was aborted", async ({ signal }) => {
    const slots = new FairSlots(1);
    const held = await slots.acquire({ parties: ["a"], signal });
    const stop = new AbortController();
    const reason = new Error("enough");
    const quitter = slots.acquire({ parties: ["a"], signal: stop.signal });
    const patient = slots.acquire({ parties: ["a"], signal });
    stop.abort(reason);
    await assert.rejects(quitter, (error) => error === reason);
    held[Symbol.dispose]();

    (await patient)[Symbol.dispose]();
  });
});
