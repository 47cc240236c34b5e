import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { describe, test } from "node:test";
import * as fc from "fast-check";

import { StreamDigest } from "./stream-digest.ts";
import { OpenedSource, uploadBody } from "./upload-body.ts";

const bytes = Buffer.from(Array.from({ length: 1_200_000 }, (_, place) => (place * 7) % 253));
const digest = `sha256:${hash("sha256", bytes)}`;
const descriptor = { mediaType: "a/b", digest, sizeBytes: bytes.length };

/** Gives bytes in one buffer that is filled anew for each chunk. */
async function* inChunks(source: Buffer, chunkBytes: number): AsyncGenerator<Buffer, void> {
  const chunk = Buffer.alloc(chunkBytes);
  for (let start = 0; start < source.length; start += chunkBytes) {
    yield chunk.subarray(0, source.copy(chunk, 0, start, start + chunkBytes));
  }
}

async function read(
  source: Buffer,
  { chunkBytes, fromByte = 0 }: { chunkBytes: number; fromByte?: number },
): Promise<{ sent: Buffer; error: unknown; progress: number[] }> {
  const copies: Buffer[] = [];
  const progress: number[] = [];
  const body = uploadBody({
    source: inChunks(source, chunkBytes),
    descriptor,
    digest: new StreamDigest(digest),
    fromByte,
    onProgress: (sentBytes) => progress.push(sentBytes),
  });
  let error: unknown;
  try {
    for await (const block of body) copies.push(Buffer.from(block));
  } catch (thrown) {
    error = thrown;
  }
  return { sent: Buffer.concat(copies), error, progress };
}

const chunkBytes = fc.integer({ min: 5_000, max: 1_300_000 });

describe("uploadBody()", () => {
  test("sends all from a place on, however the source gives it", async () => {
    const fromByte = fc.integer({ min: 0, max: bytes.length - 1 });
    await fc.assert(
      fc.asyncProperty(chunkBytes, fromByte, async (size, start) => {
        const { sent, error, progress } = await read(bytes, { chunkBytes: size, fromByte: start });

        assert.equal(error, undefined);
        assert.ok(sent.equals(bytes.subarray(start)));
        assert.equal(progress.at(-1), bytes.length);
      }),
      { numRuns: 30 },
    );
  });

  test("never sends all of what is wrong", async () => {
    const spoil = fc.constantFrom(
      (wrong: Buffer) => wrong.fill(1, 0, 1),
      (wrong: Buffer) => wrong.fill(1, wrong.length - 1),
      (wrong: Buffer) => wrong.subarray(1),
      (wrong: Buffer) => Buffer.concat([wrong, Buffer.from("x")]),
    );
    await fc.assert(
      fc.asyncProperty(chunkBytes, spoil, async (size, change) => {
        const { sent, error } = await read(change(Buffer.from(bytes)), { chunkBytes: size });

        assert.ok(error instanceof Error && error.name === "WrongContentError");
        assert.ok(sent.length < bytes.length);
      }),
      { numRuns: 30 },
    );
  });
});

describe("OpenedSource", () => {
  test("has read the first chunk, gives it once, and closes the source", async () => {
    let closed = 0;
    let given = 0;
    const source = async function* (): AsyncGenerator<Buffer, void> {
      try {
        for (; ; given++) yield Buffer.from([given]);
      } finally {
        closed++;
      }
    };
    const opened = await OpenedSource.open(source());
    const found: number[] = [];

    for await (const [first] of opened) {
      found.push(first ?? -1);
      if (found.length === 3) break;
    }

    assert.deepEqual(found, [0, 1, 2]);
    assert.deepEqual([given, closed], [2, 1]);
  });
});
