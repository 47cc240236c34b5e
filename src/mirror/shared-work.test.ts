import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { SharedWork } from "./shared-work.ts";

describe("SharedWork", () => {
  test("does once what several want at the same time, and again what is wanted later", async ({
    signal,
  }) => {
    const shared = new SharedWork();
    const { promise, resolve } = Promise.withResolvers<void>();
    let times = 0;
    const work = async (): Promise<void> => {
      times++;
      await promise;
    };
    const all = [1, 2, 3].map(() => shared.do("a", signal, work));
    resolve();
    assert.deepEqual(await Promise.all(all), [true, false, false]);
    assert.equal(times, 1);

    assert.equal(await shared.do("a", signal, work), true);
  });

  test("fails for everybody who waits", async ({ signal }) => {
    const shared = new SharedWork();
    const boom = new Error("boom");
    const all = [1, 2].map(() => shared.do("a", signal, () => Promise.reject(boom)));
    await Promise.allSettled(all);

    for (const each of all) await assert.rejects(each, (error) => error === boom);
  });

  test("is taken up by the next one when whoever does it is aborted", async ({ signal }) => {
    const shared = new SharedWork();
    const stop = new AbortController();
    const reason = new Error("enough");
    const { promise, reject } = Promise.withResolvers<void>();
    const first = shared.do("a", stop.signal, () => promise);
    let isDone = false;
    const second = shared.do("a", signal, async () => {
      isDone = true;
    });
    stop.abort(reason);
    reject(reason);

    await assert.rejects(first, (error) => error === reason);
    assert.equal(await second, true);
    assert.ok(isDone);
  });
});
