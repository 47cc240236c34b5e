import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { ManualClock } from "#test/manual-clock.ts";
import { Wake } from "./wake.ts";

describe("Wake", () => {
  test("wakes who waits", async ({ signal }) => {
    const wake = new Wake(new ManualClock());
    const waited = wake.wait({ signal });
    wake.notify();

    assert.equal(await waited, true);
  });

  test("remembers one notification, however many there were", async ({ signal }) => {
    const clock = new ManualClock();
    const wake = new Wake(clock);
    wake.notify();
    wake.notify();
    await wake.wait({ signal });

    let isAwake = false;
    const waited = wake.wait({ signal, timeoutMs: 10 }).finally(() => (isAwake = true));
    await clock.advance(9);
    assert.equal(isAwake, false);
    await clock.advance(1);
    assert.equal(await waited, false);
  });

  test("leaves no sleep behind", async ({ signal }) => {
    const clock = new ManualClock();
    const wake = new Wake(clock);
    const waited = wake.wait({ signal, timeoutMs: 10 });
    wake.notify();
    await waited;
    await clock.advance(0);

    assert.equal(clock.sleeping, 0);
  });

  test("rejects with the reason when aborted", async () => {
    const wake = new Wake(new ManualClock());
    const stop = new AbortController();
    const waited = wake.wait({ signal: stop.signal, timeoutMs: 10 });
    const reason = new Error("enough");
    stop.abort(reason);

    await assert.rejects(waited, reason);
    await assert.rejects(wake.wait({ signal: stop.signal }), reason);
  });
});
