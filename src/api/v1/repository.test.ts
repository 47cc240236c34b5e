import assert from "node:assert/strict";
import { test } from "node:test";

import * as fc from "fast-check";

import { InvalidReferenceError, parseRepository } from "#oci/reference.ts";
import { repositoryPattern } from "./repository.ts";

test("the API server's pattern accepts exactly the names that parseRepository() does", () => {
  const pattern = new RegExp(repositoryPattern);
  const parts =
    "a B 0 . - _ __ / // : :5000 :x @ [::1] [ ] localhost docker.io/ Gh.io/ host:5000/ é \n";
  const texts = fc
    .array(fc.constantFrom(...parts.split(" ")), { maxLength: 7 })
    .map((list) => list.join(""));
  fc.assert(
    fc.property(texts, (text) => {
      // The pattern is not asked about tags: a rule of its own tells about them.
      const hasTag = /:[^/]*$/.test(text);
      assert.equal(pattern.test(text) && !hasTag, isRepository(text), JSON.stringify(text));
    }),
    // The first is one that 5,000 random texts seldom hold.
    { numRuns: 5_000, examples: [["a__docker.io/a"]] },
  );
});

function isRepository(text: string): boolean {
  try {
    parseRepository(text);
    return true;
  } catch (error) {
    assert.ok(error instanceof InvalidReferenceError);
    return false;
  }
}
