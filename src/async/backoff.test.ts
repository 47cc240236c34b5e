import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { fullJitter } from "./backoff.ts";

describe("fullJitter()", () => {
  const longest = { minMs: 10_000, maxMs: 600_000, random: () => 0 };

  test("doubles its bound with each attempt until the maximum", () => {
    const bounds = [1, 2, 3, 7, 8, 5_000].map((attempt) => fullJitter(attempt, longest));

    assert.deepEqual(bounds, [10_000, 20_000, 40_000, 600_000, 600_000, 600_000]);
  });

  test("is never 0 and never over its bound", () => {
    fc.assert(
      fc.property(
        fc.nat(),
        fc.integer({ min: 1, max: 60_000 }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (attempt, minMs, chance) => {
          const ms = fullJitter(attempt, { minMs, maxMs: 600_000, random: () => chance });
          const bound = fullJitter(attempt, { minMs, maxMs: 600_000, random: () => 0 });
          assert.ok(Number.isInteger(ms) && ms >= 1 && ms <= bound && bound <= 600_000);
        },
      ),
    );
  });
});
