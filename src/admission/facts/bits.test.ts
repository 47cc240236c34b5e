import assert from "node:assert/strict";
import { test } from "node:test";

import * as fc from "fast-check";

import { Bits, countInAll, someInAll } from "./bits.ts";

test("Bits are sets of numbers", () => {
  const change = fc.record({ number: fc.nat(200), isAdded: fc.boolean(), set: fc.nat(1) });
  const property = fc.property(fc.array(change, { maxLength: 100 }), (changes) => {
    const bits = [new Bits(), new Bits()] as const;
    const sets = [new Set<number>(), new Set<number>()] as const;
    for (const { number, isAdded, set } of changes) {
      for (const each of [bits, sets]) {
        const chosen = set === 0 ? each[0] : each[1];
        if (isAdded) chosen.add(number);
        else chosen.delete(number);
      }
    }
    const common = [...sets[0].intersection(sets[1])].toSorted((a, b) => a - b);
    const shown: number[] = [];
    const showsAll = someInAll(bits, (number) => shown.push(number) < 0);
    assert.deepEqual(shown, common);
    assert.equal(showsAll, false);
    assert.equal(
      someInAll(bits, (number) => number === common[0]),
      common.length > 0,
    );
    assert.equal(countInAll(bits), common.length);
    for (const { number } of changes) assert.equal(bits[0].has(number), sets[0].has(number));
  });
  fc.assert(property, { numRuns: 300 });
});
