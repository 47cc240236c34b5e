import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { readBody, readLines, type Body } from "./body.ts";

const request = { method: "GET", path: "/api/v1/nodes" };

/** A body that comes in these pieces, and is reset behind them unless `rstCode` is 0. */
function bodyOf(pieces: Iterable<Uint8Array>, rstCode = 0): Body {
  return {
    rstCode,
    async *[Symbol.asyncIterator]() {
      for (const piece of pieces) yield Buffer.from(piece);
    },
  };
}

/** Cuts bytes into pieces of the given sizes, as a network may. */
function* cut(bytes: Buffer, sizes: readonly number[]): Generator<Buffer> {
  let start = 0;
  for (const size of sizes) {
    yield bytes.subarray(start, start + size);
    start += size;
  }
  yield bytes.subarray(start);
}

describe("readLines()", () => {
  test("yields the same lines however the network cuts them", async () => {
    const line = fc
      .string({ minLength: 1, unit: "grapheme" })
      .filter((text) => !text.includes("\n"));
    const property = fc.asyncProperty(
      fc.array(line),
      fc.array(fc.nat(20)),
      async (lines, sizes) => {
        const bytes = Buffer.from(lines.map((text) => `${text}\n`).join(""));
        const read = await Array.fromAsync(readLines(bodyOf(cut(bytes, sizes)), request, 1_000));
        assert.deepEqual(read, lines);
      },
    );
    await fc.assert(property);
  });

  test("fails when the body ends within a line", async () => {
    const lines = readLines(bodyOf([Buffer.from("whole\nhal")]), request, 100);
    assert.equal((await lines.next()).value, "whole");
    await assert.rejects(lines.next(), { code: "API_UNREACHABLE" });
  });

  test("fails when the stream was reset, which Node shows as an end", async () => {
    const lines = Array.fromAsync(readLines(bodyOf([Buffer.from("whole\n")], 8), request, 100));
    await assert.rejects(lines, { code: "API_UNREACHABLE" });
  });

  test("refuses a line that is too long before its end has come", async () => {
    const endless = (function* () {
      for (;;) yield Buffer.alloc(60, "x");
    })();
    const lines = Array.fromAsync(readLines(bodyOf(endless), request, 100));
    await assert.rejects(lines, { code: "RESPONSE_TOO_LARGE", limitBytes: 100 });
  });
});

describe("readBody()", () => {
  test("refuses a body that is too long before its end has come", async () => {
    const endless = (function* () {
      for (;;) yield Buffer.alloc(60, "x");
    })();
    const body = readBody(bodyOf(endless), request, 100);
    await assert.rejects(body, { code: "RESPONSE_TOO_LARGE", retryable: false });
  });
});
