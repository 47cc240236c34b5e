import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { assertLinear } from "./cost.ts";

/** Finds no match in a text of so many letters, from each place anew. */
const quadratic = (size: number): boolean => /a*b/.test("a".repeat(size));

const linear = (size: number): boolean => /^a*b/.test("a".repeat(size));

describe("assertLinear()", () => {
  test("lets pass what grows as its input", () => {
    for (const size of [64, 4_000, 400_000]) assertLinear(linear, size);
  });

  test("catches what grows with the square of its input", () => {
    for (const size of [1_000, 4_000, 16_000]) {
      assert.throws(() => assertLinear(quadratic, size), /in eighths/);
    }
  });
});
