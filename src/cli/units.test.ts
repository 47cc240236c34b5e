import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { formatBytes, formatDuration } from "./units.ts";

describe("formatBytes()", () => {
  const cases: [bytes: number, text: string][] = [
    [0, "0 B"],
    [999, "999 B"],
    [1_000, "1.0 kB"],
    [12_345, "12.3 kB"],
    [999_499, "999 kB"],
    [999_500, "1.0 MB"],
    [150_000_000, "150 MB"],
    [2_147_483_648, "2.1 GB"],
  ];
  for (const [bytes, text] of cases) {
    test(`writes ${bytes} as ${text}`, () => {
      assert.equal(formatBytes(bytes), text);
    });
  }

  test("never takes more than eight characters", () => {
    fc.assert(fc.property(fc.maxSafeNat(), (bytes) => formatBytes(bytes).length <= 8));
  });
});

describe("formatDuration()", () => {
  const cases: [ms: number, text: string][] = [
    [0, "0.0 s"],
    [432, "0.4 s"],
    [9_949, "9.9 s"],
    [9_950, "10 s"],
    [59_600, "1 min 0 s"],
    [185_000, "3 min 5 s"],
    [7_860_000, "2 h 11 min"],
  ];
  for (const [ms, text] of cases) {
    test(`writes ${ms} ms as ${text}`, () => {
      assert.equal(formatDuration(ms), text);
    });
  }
});
