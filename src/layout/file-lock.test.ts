import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";

import { aFolder } from "#test/layouts.ts";
import { FileLock } from "./file-lock.ts";

describe("FileLock", () => {
  test("is held by one at a time", async (t) => {
    const path = join(await aFolder(t), "lock");
    let holders = 0;
    const most: number[] = [];
    await Promise.all(
      [1, 2, 3].map(async () => {
        using _lock = await FileLock.take(path, t);
        most.push(++holders);
        await new Promise(setImmediate);
        holders--;
      }),
    );

    assert.deepEqual(most, [1, 1, 1]);
  });

  test("gives up waiting with the signal's reason", async (t) => {
    const path = join(await aFolder(t), "lock");
    using _lock = await FileLock.take(path, t);
    const stop = new AbortController();
    const reason = new Error("enough");
    const waiting = FileLock.take(path, { signal: stop.signal });
    stop.abort(reason);

    await assert.rejects(waiting, (error) => error === reason);
  });

  test("can be taken while others remove its file", async (t) => {
    const path = join(await aFolder(t), "lock");
    let taken = 0;
    await Promise.all(
      Array.from({ length: 50 }, async () => {
        using _lock = await FileLock.take(path, t);
        await rm(path, { force: true });
        taken++;
      }),
    );

    assert.equal(taken, 50);
  });
});
