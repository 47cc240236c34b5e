import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { quantile } from "./load.ts";

describe("quantile()", () => {
  const values = Array.from({ length: 200 }, (_, index) => 200 - index);

  test("is the value that a share of all is not above", () => {
    assert.equal(quantile(values, 0.99), 198);
    assert.equal(quantile(values, 0.5), 100);
    assert.equal(quantile(values, 0), 1);
    assert.equal(quantile([7], 0.99), 7);
  });

  test("of nothing is more than any target", () => {
    assert.equal(quantile([], 0.99), Infinity);
  });
});
