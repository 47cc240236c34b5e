import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { encodeFrame, FrameDecoder } from "./grpc-frames.ts";

const bytes = fc.uint8Array({ maxLength: 300 });

describe("FrameDecoder", () => {
  test("gives back what was framed, however the bytes are cut", () => {
    const cuts = fc.array(fc.integer({ min: 1, max: 64 }), { minLength: 1 });
    fc.assert(
      fc.property(fc.array(bytes, { maxLength: 8 }), cuts, (messages, sizes) => {
        const wire = Buffer.concat(messages.map(encodeFrame));
        const decoder = new FrameDecoder({ maxMessageBytes: 300 });
        const seen: Uint8Array[] = [];

        for (let at = 0, turn = 0; at < wire.length; turn++) {
          const size = sizes[turn % sizes.length] ?? 1;
          seen.push(...decoder.push(wire.subarray(at, at + size)));
          at += size;
        }

        assert.deepEqual(
          seen.map((message) => [...message]),
          messages.map((message) => [...message]),
        );
        assert.equal(decoder.isInsideMessage, false);
      }),
    );
  });

  test("refuses a message over the limit as soon as its head is there", () => {
    const decoder = new FrameDecoder({ maxMessageBytes: 10 });
    const head = encodeFrame(new Uint8Array(11)).subarray(0, 5);

    assert.throws(() => [...decoder.push(head)], { code: "RESOURCE_EXHAUSTED" });
  });

  test("refuses a compressed message", () => {
    const decoder = new FrameDecoder({ maxMessageBytes: 10 });

    assert.throws(() => [...decoder.push(Uint8Array.of(1, 0, 0, 0, 0))], { code: "INTERNAL" });
  });

  test("knows that it is inside a message", () => {
    const decoder = new FrameDecoder({ maxMessageBytes: 10 });

    assert.deepEqual([...decoder.push(encodeFrame(Uint8Array.of(1, 2)).subarray(0, 6))], []);

    assert.equal(decoder.isInsideMessage, true);
  });
});
