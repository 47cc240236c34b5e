import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { allowance, type Quota } from "./quota.ts";
import { largestSize, type Taken } from "./quota-usage.ts";

const none: Quota = { allowedRegistries: [], references: 0, bytesPerNode: 0 };

function anImage(
  name: string,
  sizeBytes?: number,
): Parameters<ReturnType<typeof allowance>["sizeRefusal"]>[0] {
  const reference = `r.io/${name}:1`;
  return sizeBytes === undefined
    ? { reference }
    : { reference, sizes: [{ platform: "linux/amd64", sizeBytes }] };
}

/** What an older Image with these images takes. */
function takenBy(...images: ReturnType<typeof anImage>[]): Taken {
  const sizes = new Map(images.map((image) => [image.reference, largestSize(image)]));
  const bytes = sizes.values().reduce((sum, size) => sum + size, 0);
  return { references: sizes.size, bytes, sizeOf: (reference) => sizes.get(reference) };
}

describe("allowance()", () => {
  test("refuses nothing without a quota", () => {
    const { refusal, sizeRefusal } = allowance(none);
    assert.equal(refusal("docker.io/library/debian:1"), undefined);
    assert.equal(sizeRefusal(anImage("x", 1e12)), undefined);
  });

  test("refuses other registries than the allowed ones, and names these", () => {
    const { refusal } = allowance({ ...none, allowedRegistries: ["r.io"] });
    assert.equal(refusal("r.io/x:1"), undefined);
    assert.match(refusal("docker.io/library/debian:1") ?? "", /allowed ones: r\.io/);
  });

  test("counts a reference once, whoever asks for it, and older Images first", () => {
    const older = takenBy(anImage("a"), anImage("b"));
    const { refusal } = allowance({ ...none, references: 3 }, older);
    assert.equal(refusal("r.io/a:1"), undefined);
    assert.equal(refusal("r.io/c:1"), undefined);
    assert.match(refusal("r.io/d:1") ?? "", /more than the 3 images/);
  });

  test("never lets more bytes through than a node may have", () => {
    const sizes = fc.array(fc.nat(100), { maxLength: 20 });
    fc.assert(
      fc.property(sizes, sizes, fc.integer({ min: 1, max: 300 }), (before, now, bytesPerNode) => {
        const older = before.map((size, index) => anImage(`old${index}`, size));
        const taken = before.reduce((sum, size) => sum + size, 0);
        const { sizeRefusal } = allowance({ ...none, bytesPerNode }, takenBy(...older));
        const added = now
          .map((size, index) => ({ size, refused: sizeRefusal(anImage(`new${index}`, size)) }))
          .filter(({ refused }) => refused === undefined)
          .reduce((sum, { size }) => sum + size, 0);
        assert.ok(added === 0 || taken + added <= bytesPerNode);
      }),
    );
  });
});
