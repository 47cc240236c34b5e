import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import type { ReportedImage } from "#api/v1/node-report.ts";
import { differences, inOrder, reportedIn } from "./reported-images.ts";

const aReport: fc.Arbitrary<ReportedImage[]> = fc.array(
  fc.record(
    {
      reference: fc.constantFrom("r1", "r2", "r3", "r4", "r5"),
      state: fc.constantFrom("pending" as const, "available" as const),
      since: fc.constantFrom("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
    },
    { noNullPrototype: true },
  ),
  { maxLength: 8 },
);

/** The first of each name. */
function byReference(images: readonly ReportedImage[]): Map<string, ReportedImage> {
  return new Map(images.toReversed().map((image) => [image.reference, image]));
}

describe("inOrder()", () => {
  test("has the first of each reference, by name", () => {
    fc.assert(
      fc.property(aReport, (images) => {
        const expected = [...byReference(images).values()].toSorted((a, b) =>
          a.reference < b.reference ? -1 : 1,
        );
        assert.deepEqual(inOrder(images), expected);
      }),
    );
  });

  test("leaves alone what is in order", () => {
    const images = inOrder([{ reference: "a", state: "available", since: "" }]);
    assert.equal(inOrder(images), images);
  });
});

describe("reportedIn()", () => {
  test("finds what is there, and nothing else", () => {
    fc.assert(
      fc.property(aReport, fc.constantFrom("r0", "r1", "r3", "r5", "r6"), (images, reference) => {
        assert.equal(reportedIn(inOrder(images), reference), byReference(images).get(reference));
      }),
    );
  });
});

describe("differences()", () => {
  test("lead from one report to the other, and name nothing that is the same", () => {
    fc.assert(
      fc.property(aReport, aReport, (one, other) => {
        const [before, after] = [inOrder(one), inOrder(other)];
        const reached = byReference(before);
        for (const [old, next] of differences(before, after)) {
          assert.notDeepEqual(old, next);
          if (old) reached.delete(old.reference);
          if (next) reached.set(next.reference, next);
        }
        assert.deepEqual(reached, byReference(after));
      }),
    );
  });
});
