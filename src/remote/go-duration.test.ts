import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";

import { parseGoDuration } from "./go-duration.ts";

describe("parseGoDuration()", () => {
  const durations = {
    "0": 0,
    "0s": 0,
    "12h": 12 * 3_600_000,
    "6h0m0s": 6 * 3_600_000,
    "1h30m": 90 * 60_000,
    "1.5h": 90 * 60_000,
    ".5s": 500,
    "1.s": 1_000,
    "250ms": 250,
    "1000000ns": 1,
    "1000us": 1,
    "1000µs": 1,
    "1000μs": 1,
  };
  for (const [text, ms] of Object.entries(durations)) {
    test(`takes ${text} for ${ms} ms`, () => assert.equal(parseGoDuration(text), ms));
  }

  for (const text of ["", "12", "h", "-1h", "+1h", "1 h", "1d", "1h 2m", ".s", "1e3s", "1h1"]) {
    test(`takes "${text}" for no duration`, () => assert.equal(parseGoDuration(text), undefined));
  }

  test("takes what Go writes for hours, minutes and seconds", () => {
    const part = fc.nat(59);
    fc.assert(
      fc.property(fc.nat(999), part, part, (hours, minutes, seconds) => {
        const ms = ((hours * 60 + minutes) * 60 + seconds) * 1_000;
        assert.equal(parseGoDuration(`${hours}h${minutes}m${seconds}s`), ms);
      }),
    );
  });

  test("never throws, and gives nothing below 0", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom("0", "1", "9", ".", "h", "m", "s", "n", "µ", "-") }),
        (text) => {
          assert.ok((parseGoDuration(text) ?? 0) >= 0);
        },
      ),
    );
  });
});
