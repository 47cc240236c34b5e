import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { drawProgress } from "./bars.ts";
import type { ProgressView } from "./progress.ts";

const still: ProgressView = {
  copied: 0,
  unchanged: 0,
  planned: 0,
  failed: 0,
  throttled: 0,
  running: 0,
  sentBytes: 0,
  bytesPerSecond: 0,
  blobs: [],
  waits: [],
};

const blob = {
  label: "ghcr.io/org/app:1",
  digest: "sha256:0123456789abcdef",
  sentBytes: 30_000_000,
  sizeBytes: 120_000_000,
  bytesPerSecond: 1_500_000,
};

function drawIn(columns: number): string {
  return drawProgress({ ...still, blobs: [blob] }, { columns, rows: 24 })[1] ?? "";
}

describe("drawProgress()", () => {
  test("shows counts, what is under way, and how long each blob will take", () => {
    const view = {
      ...still,
      copied: 3,
      unchanged: 9,
      running: 2,
      sentBytes: 45e6,
      bytesPerSecond: 3e6,
    };
    const lines = drawProgress({ ...view, blobs: [blob] }, { columns: 120, rows: 24 });

    assert.equal(lines[0], "3 copied, 9 unchanged, 2 under way: 45.0 MB, 3.0 MB/s");
    assert.match(
      lines[1] ?? "",
      /^ghcr\.io\/org\/app:1 01234567 +\[#{5}-{15}\] +25 % +30\.0 MB of 120 MB +1\.5 MB\/s +1 min 0 s$/,
    );
  });

  test("gives up the bar, then the name, where there is little room", () => {
    assert.match(drawIn(90), /^….+:1 01234567 \[/);
    assert.match(drawIn(62), /^….*01234567 +25 %/);
    assert.equal(drawIn(20), "25 %");
  });

  test("says how many blobs it does not show", () => {
    const blobs = Array.from({ length: 12 }, () => blob);

    const lines = drawProgress({ ...still, blobs }, { columns: 100, rows: 24 });
    assert.equal(lines.length, 9);
    assert.match(lines[0] ?? "", /4 more blobs/);
    assert.equal(drawProgress({ ...still, blobs }, { columns: 100, rows: 5 }).length, 4);
  });

  test("says whom it waits for", () => {
    const view = { ...still, waits: [{ host: "docker.io", leftMs: 35_000 }] };

    assert.deepEqual(
      drawProgress(view, { columns: 80, rows: 24 })[1],
      "docker.io wants to be left alone for 35 s",
    );
  });

  test("fits into every terminal", () => {
    const anyBlob = fc.record({
      label: fc.string({ maxLength: 80 }),
      digest: fc.constant("sha256:0123456789abcdef"),
      sentBytes: fc.maxSafeNat(),
      sizeBytes: fc.maxSafeNat(),
      bytesPerSecond: fc.option(fc.nat(), { nil: undefined }),
    });
    const space = fc.record({
      columns: fc.integer({ min: 1, max: 200 }),
      rows: fc.integer({ min: 1, max: 60 }),
    });
    fc.assert(
      fc.property(fc.array(anyBlob, { maxLength: 20 }), space, (blobs, room) => {
        const lines = drawProgress({ ...still, blobs }, room);
        assert.ok(lines.length <= Math.max(1, room.rows - 1));
        for (const line of lines) assert.ok(line.length <= Math.max(1, room.columns - 1), line);
      }),
    );
  });
});
