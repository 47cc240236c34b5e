import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { TransferProgress } from "./transfer-progress.ts";

const digest = (letter: string): string => `sha256:${letter.repeat(64)}`;
const a = `layer-${digest("a")}`;
const b = `layer-${digest("b")}`;

/** Shows downloads at their offsets, at a time. */
function seen(progress: TransferProgress, nowMs: number, offsets: Record<string, number>): void {
  const ingests = Object.entries(offsets).map(([ref, offsetBytes]) => ({ ref, offsetBytes }));
  progress.observe(ingests, nowMs);
}

describe("a pull whose blobs are known", () => {
  test("goes on while one of them appears, grows or is done, and not with another's", () => {
    const progress = new TransferProgress();
    const pull = progress.follow(0);
    pull.blobs = new Set([digest("a")]);
    seen(progress, 1, {});
    seen(progress, 2, { [a]: 0 });
    assert.equal(pull.lastMs, 2);
    seen(progress, 3, { [a]: 10 });
    assert.equal(pull.lastMs, 3);
    seen(progress, 4, { [a]: 10, [b]: 5 });
    seen(progress, 5, { [a]: 10, [b]: 9 });
    assert.equal(pull.lastMs, 3);
    seen(progress, 6, { [b]: 12 });
    assert.equal(pull.lastMs, 6);
  });

  test("goes on while it downloads nothing: it unpacks", () => {
    const progress = new TransferProgress();
    const pull = progress.follow(0);
    pull.blobs = new Set([digest("a")]);
    for (const ms of [1, 2, 3]) seen(progress, ms, { [b]: 5 });

    assert.equal(pull.lastMs, 3);
  });
});

describe("a pull whose blobs are not known", () => {
  test("has not begun while nothing comes, whatever was left behind before", () => {
    const progress = new TransferProgress();
    const pull = progress.follow(0);
    for (const ms of [1, 2, 3]) seen(progress, ms, { [a]: 10 });

    assert.deepEqual([pull.hasBegun, pull.lastMs], [false, 0]);
  });

  test("goes on with any download that nobody else can own", () => {
    const progress = new TransferProgress();
    const pull = progress.follow(0);
    const other = progress.follow(0);
    other.blobs = new Set([digest("b")]);
    seen(progress, 1, {});
    seen(progress, 2, { [b]: 1 });
    assert.equal(pull.hasBegun, false);
    seen(progress, 3, { [a]: 1, [b]: 1 });
    assert.deepEqual([pull.hasBegun, pull.lastMs], [true, 3]);
    seen(progress, 4, { [a]: 1, [b]: 2 });
    seen(progress, 5, { [a]: 1, [b]: 3 });
    assert.equal(pull.lastMs, 3, "its own stands still");
  });

  test("goes on when its downloads are done: it unpacks", () => {
    const progress = new TransferProgress();
    const pull = progress.follow(0);
    seen(progress, 1, {});
    seen(progress, 2, { [a]: 1 });
    for (const ms of [3, 4, 5]) seen(progress, ms, {});

    assert.equal(pull.lastMs, 5);
  });

  test("is not blamed for what another pull may have left behind", () => {
    const progress = new TransferProgress();
    const [pull, other] = [progress.follow(0), progress.follow(0)];
    seen(progress, 1, {});
    seen(progress, 2, { [a]: 1 });
    for (const ms of [3, 4]) seen(progress, ms, { [a]: 1 });
    assert.deepEqual([pull.lastMs, other.lastMs], [2, 2], "either may own it");
    progress.forget(other);
    seen(progress, 5, { [a]: 1 });

    assert.equal(pull.lastMs, 5);
  });
});
