import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { Semaphore } from "./semaphore.ts";

const { signal: never } = new AbortController();

describe("Semaphore", () => {
  test("lets in as many as it has slots, and then the next in line", async () => {
    const semaphore = new Semaphore(2);
    const entered: string[] = [];
    const enter = async (name: string): Promise<Disposable> => {
      const slot = await semaphore.acquire({ signal: never });
      entered.push(name);
      return slot;
    };
    const [first] = await Promise.all([enter("a"), enter("b")]);
    const others = [enter("c"), enter("d")];
    await settled();
    assert.deepEqual(entered, ["a", "b"]);

    first[Symbol.dispose]();
    await others[0];
    assert.deepEqual(entered, ["a", "b", "c"]);
  });

  test("forgets who stops waiting, and says why", async () => {
    const semaphore = new Semaphore(1);
    const slot = await semaphore.acquire({ signal: never });
    const stop = new AbortController();
    const left = semaphore.acquire({ signal: stop.signal });
    const next = semaphore.acquire({ signal: never });
    stop.abort(new Error("left"));

    await assert.rejects(left, /left/);
    slot[Symbol.dispose]();
    await next;
  });

  test("loses nobody when one is aborted that has just got its slot", async () => {
    const semaphore = new Semaphore(1);
    const slot = await semaphore.acquire({ signal: never });
    const stop = new AbortController();
    const second = semaphore.acquire({ signal: stop.signal });
    const third = semaphore.acquire({ signal: AbortSignal.timeout(1_000) });
    slot[Symbol.dispose]();
    stop.abort(new Error("too late"));

    (await second)[Symbol.dispose]();
    await third;
  });

  test("loses nobody, whenever others are aborted", async () => {
    const act = fc.record({ kind: fc.constantFrom("enter", "abort", "leave", "turn") });
    await fc.assert(
      fc.asyncProperty(fc.array(act, { maxLength: 40 }), async (acts) => {
        const semaphore = new Semaphore(1);
        const stops = new Set<AbortController>();
        const holders: Disposable[] = [];
        const enter = (): void => {
          const stop = new AbortController();
          stops.add(stop);
          const done = semaphore.acquire({ signal: stop.signal }).then(
            (slot) => holders.push(slot),
            () => undefined,
          );
          void done.then(() => stops.delete(stop));
        };
        for (const { kind } of acts) {
          if (kind === "enter") enter();
          else if (kind === "abort") [...stops][0]?.abort(new Error("aborted"));
          else if (kind === "leave") holders.shift()?.[Symbol.dispose]();
          else await settled();
        }
        const last = semaphore.acquire({ signal: AbortSignal.timeout(1_000) });
        for (let round = 0; round <= acts.length; round++) {
          await settled();
          for (const holder of holders.splice(0)) holder[Symbol.dispose]();
        }
        await last;
      }),
    );
  });
});

/** Lets everything that is ready to go on do so. */
async function settled(): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve));
}
