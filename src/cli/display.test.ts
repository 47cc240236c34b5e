import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { CopyEvent, TagResult } from "#mirror/copy-result.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { Display } from "./display.ts";

const names = { source: "a.test/x", target: "b.test/x", tag: "1" };
const counts = {
  bytesCopied: 1_500,
  blobsCopied: 1,
  blobsMounted: 0,
  blobsSkipped: 0,
  manifestsCopied: 1,
};
const copied: TagResult = {
  tag: "1",
  outcome: "copied",
  digest: "sha256:1",
  digestDiffers: false,
  ...counts,
};
const unchanged: TagResult = { ...copied, outcome: "unchanged" };
const denied: TagResult = {
  tag: "1",
  outcome: "failed",
  code: "DENIED",
  reason: "a.test: no",
  ...counts,
};

function done(result: TagResult): CopyEvent {
  return { kind: "tagDone", ...names, result };
}

const escape = "\x1b";
const parts = new RegExp(`${escape}\\[\\d*[AKJ]|[\\r\\n]|[^${escape}\\r\\n]+`, "g");

/** What a terminal would show after all that was written to it. */
function screenOf(written: readonly string[]): string[] {
  const lines: string[] = [""];
  let row = 0;
  for (const [part] of written.join("").matchAll(parts)) {
    const command = part.startsWith(escape) ? part.at(-1) : undefined;
    if (command === "A") row -= Number(part.slice(2, -1));
    else if (command === "J") lines.length = row + 1;
    else if (part === "\n") lines[++row] ??= "";
    else if (part !== "\r" && command === undefined) lines[row] = part;
  }
  return lines.slice(0, row).filter((line) => line !== "");
}

describe("Display", () => {
  test("writes a line for what is done, and none for what was in step, where there is no terminal", () => {
    const written: string[] = [];
    using display = new Display({ write: (text) => written.push(text), clock: new ManualClock() });
    for (const result of [copied, unchanged, denied]) display.note(done(result));

    assert.deepEqual(written, [
      "copied a.test/x:1 to b.test/x (1.5 kB, 1 manifests)\n",
      "failed a.test/x:1: DENIED: a.test: no\n",
    ]);
  });

  test("says once that a registry wants to be left alone", () => {
    const written: string[] = [];
    const clock = new ManualClock();
    using display = new Display({ write: (text) => written.push(text), clock });
    const untilMs = clock.now().getTime() + 30_000;
    for (const until of [untilMs, untilMs, undefined, untilMs]) display.waitFor("a.test", until);

    assert.deepEqual(written, ["a.test wants to be left alone for 30 s: waiting\n"]);
  });

  test("draws at most ten times a second, each frame in one write over the last", async () => {
    const written: string[] = [];
    const clock = new ManualClock();
    using display = new Display({
      write: (text) => written.push(text),
      clock,
      space: () => ({ columns: 80, rows: 24 }),
    });
    for (let sentBytes = 0; sentBytes < 1_000; sentBytes++) {
      display.note({
        kind: "blobProgress",
        ...names,
        digest: "sha256:a",
        sentBytes,
        sizeBytes: 2_000,
      });
      if (sentBytes % 100 === 99) await clock.advance(100);
    }

    assert.equal(written.length, 10);
    assert.equal(screenOf(written).length, 2);
    assert.match(screenOf(written)[1] ?? "", /999 B of 2\.0 kB/);
  });

  test("keeps lines above the bars, and takes the bars away at the end", async () => {
    const written: string[] = [];
    const clock = new ManualClock();
    const display = new Display({
      write: (text) => written.push(text),
      clock,
      space: () => ({ columns: 80, rows: 24 }),
    });
    display.note({ kind: "tagStarted", ...names });
    await clock.advance(100);
    display.note(done(copied));
    await clock.advance(100);
    assert.deepEqual(screenOf(written), [
      "copied a.test/x:1 to b.test/x (1.5 kB, 1 manifests)",
      "1 copied, 0 under way: 0 B",
    ]);

    display.note(done(denied));
    display[Symbol.dispose]();
    display[Symbol.dispose]();
    assert.deepEqual(screenOf(written), [
      "copied a.test/x:1 to b.test/x (1.5 kB, 1 manifests)",
      "failed a.test/x:1: DENIED: a.test: no",
    ]);
    await clock.advance(0);
    assert.equal(clock.sleeping, 0);
  });

  test("draws once a second while nothing happens", async () => {
    const written: string[] = [];
    const clock = new ManualClock();
    using _ = new Display({
      write: (text) => written.push(text),
      clock,
      space: () => ({ columns: 80, rows: 24 }),
    });
    await clock.advance(5_000);

    assert.equal(written.length, 5);
  });
});
