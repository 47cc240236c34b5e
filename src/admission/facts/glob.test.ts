import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { compileGlob } from "./glob.ts";

/** What globs mean, written down without a thought of cost. */
function reference(glob: string, text: string): boolean {
  if (glob === "") return text === "";
  if (glob.startsWith("**")) {
    return reference(glob.slice(2), text) || (text !== "" && reference(glob, text.slice(1)));
  }
  if (glob.startsWith("*")) {
    return (
      reference(glob.slice(1), text) ||
      (text !== "" && !text.startsWith("/") && reference(glob, text.slice(1)))
    );
  }
  return text.startsWith(glob.charAt(0)) && reference(glob.slice(1), text.slice(1));
}

describe("compileGlob()", () => {
  const nginx = "docker.io/library/nginx:1.29";
  const table: readonly [glob: string, text: string, isMatch: boolean][] = [
    [nginx, nginx, true],
    [nginx, `${nginx}-alpine`, false],
    ["**", nginx, true],
    ["*", nginx, false],
    ["*", "sidecar", true],
    ["*", "", true],
    ["docker.io/library/*", nginx, true],
    ["docker.io/*", nginx, false],
    ["docker.io/**", nginx, true],
    ["docker.io/**", "docker.io.evil.example/a:1", false],
    ["docker.io/*/nginx:*", nginx, true],
    ["**/nginx:*", nginx, true],
    ["**:1.29", nginx, true],
    ["*.example/**:v*", "r.example/a/b:v1", true],
    ["*.example/**:v*", "r.example/a/b:1", false],
    ["[::1]:5000/**", "[::1]:5000/a:1", true],
    ["[ab]", "a", false],
    ["ab*ba", "aba", false],
    ["a***b", "a/x/b", true],
  ];
  for (const [glob, text, isMatch] of table) {
    test(`"${glob}" ${isMatch ? "matches" : "does not match"} "${text}"`, () => {
      assert.equal(compileGlob(glob)(text), isMatch);
    });
  }

  test("means what the reference says", () => {
    const glob = fc.array(fc.constantFrom("a", "b", "/", "*", "**"), { maxLength: 7 });
    const text = fc.array(fc.constantFrom("a", "b", "/"), { maxLength: 8 });
    const property = fc.property(glob, text, (parts, units) => {
      const [glob, text] = [parts.join(""), units.join("")];
      assert.equal(compileGlob(glob)(text), reference(glob, text));
    });
    fc.assert(property, { numRuns: 3_000 });
  });

  test("takes no longer for globs that are made to try everything", () => {
    const matches = compileGlob(`${"*a".repeat(250)}*b*`);
    const startedAt = performance.now();
    assert.equal(matches("a".repeat(500)), false);
    assert.ok(performance.now() - startedAt < 1_000, "backtracking takes longer than the universe");
  });
});
