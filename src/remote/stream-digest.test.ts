import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { describe, test } from "node:test";
import * as fc from "fast-check";

import { StreamDigest } from "./stream-digest.ts";

const mebibyte = 1 << 20;
const bytes = Buffer.from(hash("sha512", "seed", "buffer"));
const large = Buffer.alloc(40 * mebibyte, bytes);

describe("StreamDigest", () => {
  test("knows the digest of what it was given, in the algorithm of the digest that is wanted", () => {
    for (const algorithm of ["sha256", "sha512"]) {
      const digest = new StreamDigest(`${algorithm}:abc`);
      digest.update(bytes);
      digest.update(bytes);

      assert.equal(
        digest.digest(),
        `${algorithm}:${hash(algorithm, Buffer.concat([bytes, bytes]))}`,
      );
      assert.equal(digest.offset, 2 * bytes.length);
    }
  });

  test("goes back to a place at or before the one that is wanted, and near it", () => {
    const digest = new StreamDigest("sha256:abc");
    for (let start = 0; start < large.length; start += mebibyte) {
      digest.update(large.subarray(start, start + mebibyte));
    }

    digest.rewind(39 * mebibyte + 5);
    assert.equal(digest.offset, 32 * mebibyte);
    digest.update(large.subarray(digest.offset));
    assert.equal(digest.digest(), `sha256:${hash("sha256", large)}`);
  });

  test("comes to the same digest, wherever it was taken back to on the way", () => {
    const wanted = `sha256:${hash("sha256", large)}`;
    const places = fc.array(fc.integer({ min: 0, max: large.length }), { maxLength: 6 });
    fc.assert(
      fc.property(places, fc.integer({ min: mebibyte, max: 9 * mebibyte }), (stops, step) => {
        const digest = new StreamDigest("sha256:abc");
        for (const stop of [...stops, large.length]) {
          if (stop < digest.offset) digest.rewind(stop);
          while (digest.offset < stop) {
            digest.update(large.subarray(digest.offset, Math.min(digest.offset + step, stop)));
          }
        }
        assert.equal(digest.digest(), wanted);
      }),
      { numRuns: 15 },
    );
  });
});
