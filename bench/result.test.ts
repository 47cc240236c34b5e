import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { formatResult, median } from "./result.ts";

describe("median()", () => {
  test("is the middle value, or the mean of the two middle ones", () => {
    assert.equal(median([5, 1, 3]), 3);
    assert.equal(median([4, 1, 3, 2]), 2.5);
  });
});

describe("formatResult()", () => {
  test("ends with one JSON line in which each check says whether its target is met", () => {
    const text = formatResult("sample", {
      figures: { seconds: 1.5 },
      checks: [
        { name: "ratio", value: 1.2, target: 1.15, better: "lower" },
        { name: "rate", value: 2, target: 2, better: "higher" },
      ],
    });

    assert.deepEqual(JSON.parse(text.split("\n").at(-1) ?? ""), {
      bench: "sample",
      figures: { seconds: 1.5 },
      checks: [
        { name: "ratio", value: 1.2, target: 1.15, better: "lower", ok: false },
        { name: "rate", value: 2, target: 2, better: "higher", ok: true },
      ],
    });
  });
});
