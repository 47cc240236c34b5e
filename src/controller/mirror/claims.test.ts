import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import type { Mirror } from "#api/v1/mirror.ts";
import { aMirror, repositories } from "#test/mirrors.ts";
import { Claims } from "./claims.ts";

const day = (number: number): string => `2026-01-0${number}T00:00:00Z`;

/** A Mirror that copies repositories of these names, all to names of their own below one registry. */
function named(name: string, created: string, paths: readonly string[], generation = 1): Mirror {
  const names = Object.fromEntries(paths.map((path) => [`${name}.test/${path}`, "all" as const]));
  return aMirror(
    { destination: "{name}", repositories: repositories(names) },
    { name, creationTimestamp: created, generation },
  );
}

function targetsOf(claims: Claims, key: string): string[] | undefined {
  return claims.verdictOf(key)?.copies.map(({ target }) => target.replace("target.test/", ""));
}

describe("Claims", () => {
  test("lets the oldest Mirror write, and tells the others who it is", () => {
    const claims = new Claims();
    claims.set(named("young", day(2), ["x", "y"]));
    const affected = claims.set(named("old", day(1), ["x"]));

    assert.deepEqual(affected, new Set(["team/young"]));
    assert.deepEqual(targetsOf(claims, "team/old"), ["x"]);
    assert.deepEqual(targetsOf(claims, "team/young"), ["y"]);
    const [lost] = claims.verdictOf("team/young")?.lost ?? [];
    assert.deepEqual([lost?.copy.source, lost?.holder], ["young.test/x", "team/old"]);
  });

  test("goes by name among those of one second, and takes one without a time for the newest", () => {
    const claims = new Claims();
    claims.set(named("timeless", "", ["x"]));
    claims.set(named("b", day(1), ["x"]));
    claims.set(named("a", day(1), ["x"]));

    assert.deepEqual(targetsOf(claims, "team/a"), ["x"]);
    assert.deepEqual(targetsOf(claims, "team/b"), []);
    assert.deepEqual(targetsOf(claims, "team/timeless"), []);
  });

  test("gives a repository to the next one when the first ceases to want it", () => {
    const claims = new Claims();
    claims.set(named("a", day(1), ["x"]));
    claims.set(named("b", day(2), ["x"]));
    claims.set(named("c", day(3), ["x"]));

    assert.deepEqual(claims.set(named("a", day(1), ["y"], 2)), new Set(["team/b", "team/c"]));
    assert.deepEqual(targetsOf(claims, "team/b"), ["x"]);
    assert.deepEqual(claims.delete("team/b"), new Set(["team/c"]));
    assert.deepEqual(targetsOf(claims, "team/c"), ["x"]);
    assert.equal(claims.verdictOf("team/b"), undefined);
  });

  test("does nothing for a change of the status", () => {
    const claims = new Claims();
    claims.set(named("a", day(1), ["x"]));
    claims.set(named("b", day(2), ["x"]));

    assert.deepEqual(claims.set(named("b", day(2), ["x"])), new Set());
  });

  test("takes hosts for the same whatever their case", () => {
    const claims = new Claims();
    claims.set(aMirror({ registry: "REG.test:443" }, { name: "a" }));
    claims.set(aMirror({ registry: "reg.test" }, { name: "b" }));

    assert.equal(claims.verdictOf("team/b")?.lost[0]?.holder, "team/a");
  });

  test("knows who copies from a repository", () => {
    const claims = new Claims();
    claims.set(named("a", day(1), ["x"]));
    assert.deepEqual([...claims.readersOf("a.test/x").keys()], ["team/a"]);
    claims.set(named("a", day(1), ["y"], 2));
    assert.deepEqual([...claims.readersOf("a.test/x").keys()], []);
    claims.delete("team/a");
    assert.deepEqual([...claims.readersOf("a.test/y").keys()], []);
  });

  test("tells who writes to a repository that another Mirror begins and ceases to copy from it", () => {
    const claims = new Claims();
    claims.set(named("a", day(1), ["x"]));
    const reader = aMirror(
      { registry: "far.test", repositories: repositories({ "target.test/x": ["1"] }) },
      { name: "reader" },
    );

    assert.deepEqual(claims.set(reader), new Set(["team/a"]));
    assert.deepEqual(claims.delete("team/reader"), new Set(["team/a"]));
  });

  test("is quick, however many Mirrors want the same", () => {
    const claims = new Claims();
    const want = (index: number, created: string): void => {
      claims.set(aMirror({}, { name: `m${index}`, creationTimestamp: created }));
    };
    const start = performance.now();
    want(0, day(1));
    for (let index = 1; index < 10_000; index++) want(index, day(2));
    for (let index = 1; index < 10_000; index++) claims.delete(`team/m${index}`);

    assert.ok(performance.now() - start < 2_000);
    assert.equal(claims.claimantsOf("target.test/source.test/org/app").length, 1);
  });

  test("comes to what a look at all Mirrors at once comes to, and tells all whose verdict changes", () => {
    const name = fc.constantFrom("a", "b", "c", "d");
    const paths = fc.uniqueArray(fc.constantFrom("x", "y", "z"), { maxLength: 3 });
    const step = fc.record({ name, created: fc.constantFrom(day(1), day(2)), paths });
    fc.assert(
      fc.property(fc.array(fc.oneof(step, fc.record({ name })), { maxLength: 20 }), (steps) => {
        const claims = new Claims();
        const present = new Map<string, Mirror>();
        for (const [index, step] of steps.entries()) {
          const key = `team/${step.name}`;
          const before = new Map([...present.keys()].map((each) => [each, claims.verdictOf(each)]));
          let affected: Set<string>;
          if ("paths" in step) {
            const mirror = named(step.name, step.created, step.paths, index);
            present.set(key, mirror);
            affected = claims.set(mirror);
          } else {
            present.delete(key);
            affected = claims.delete(key);
          }
          const fresh = new Claims();
          for (const mirror of present.values()) fresh.set(mirror);
          for (const each of present.keys()) {
            const verdict = claims.verdictOf(each);
            assert.deepEqual(verdict, fresh.verdictOf(each));
            if (each === key || affected.has(each)) continue;
            assert.deepEqual(verdict, before.get(each));
          }
        }
      }),
      { numRuns: 200 },
    );
  });
});
