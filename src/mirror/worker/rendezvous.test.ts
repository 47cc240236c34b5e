import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { ownerOf } from "./rendezvous.ts";

const names = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 8 }), {
  minLength: 1,
  maxLength: 8,
});
const keys = fc.array(fc.string(), { maxLength: 20 });

describe("ownerOf()", () => {
  test("names nobody where there is nobody", () => {
    assert.equal(ownerOf("key", []), undefined);
  });

  test("does not depend on the order of the members", () => {
    fc.assert(
      fc.property(names, keys, (members, all) => {
        for (const key of all) {
          assert.equal(ownerOf(key, members), ownerOf(key, members.toReversed()));
        }
      }),
    );
  });

  test("moves the keys of a member that leaves, and no others", () => {
    fc.assert(
      fc.property(names, keys, fc.nat(), (members, all, chance) => {
        const gone = members[chance % members.length];
        const left = members.filter((member) => member !== gone);
        for (const key of all) {
          const before = ownerOf(key, members);
          if (before !== gone) assert.equal(ownerOf(key, left), before);
        }
      }),
    );
  });

  test("gives a new member keys of all others, and moves no key between these", () => {
    fc.assert(
      fc.property(names, keys, fc.string({ minLength: 9, maxLength: 9 }), (members, all, added) => {
        for (const key of all) {
          const after = ownerOf(key, [...members, added]);
          if (after !== added) assert.equal(after, ownerOf(key, members));
        }
      }),
    );
  });

  test("gives each member about as much as any other", () => {
    const members = Array.from({ length: 5 }, (_, index) => `coral-mirror-${index}`);
    const repositories = Array.from({ length: 5_000 }, (_, index) => `r.test/org/app-${index}`);
    const shares = Map.groupBy(repositories, (key) => ownerOf(key, members));

    assert.equal(shares.size, 5);
    for (const [, { length }] of shares) assert.ok(Math.abs(length - 1_000) < 120, `${length}`);
  });
});
