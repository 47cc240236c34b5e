import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import * as filters from "./tag-filter.ts";
import { FilterTooSlowError, tagFilterProblems, type TagFilter } from "./tag-filter.ts";

async function filterTags(filter: TagFilter, tags: readonly string[]): Promise<string[]> {
  const signal = AbortSignal.timeout(30_000);
  return filters.filterTags(filter, tags, { budgetMs: 10_000, signal });
}

describe("filterTags()", () => {
  const tags = ["1.2.0", "v1.10.0", "1.9.3", "2.0.0-rc.1", "1.2", "latest", "1.9.3-alpine"];
  const cases: Record<string, [filter: TagFilter, taken: string[]]> = {
    "takes every tag, newest first": [
      {},
      ["v1.10.0", "latest", "2.0.0-rc.1", "1.9.3-alpine", "1.9.3", "1.2.0", "1.2"],
    ],
    "takes what matches one expression as a whole": [
      { include: ["1\\.9.*", "late"] },
      ["1.9.3", "1.9.3-alpine"],
    ],
    "leaves out what matches another as a whole": [
      { include: ["1.*"], exclude: [".*-alpine", "1"] },
      ["1.9.3", "1.2.0", "1.2"],
    ],
    "takes versions of a range, with or without v, and no pre-releases": [
      { semver: ">=1.2 <3" },
      ["v1.10.0", "1.9.3", "1.2.0"],
    ],
    "takes a pre-release that the range names": [{ semver: ">=2.0.0-rc.0" }, ["2.0.0-rc.1"]],
    "takes the newest versions": [{ semver: "*", newest: 2 }, ["v1.10.0", "1.9.3"]],
    "orders pre-releases before their version": [{ include: ["1.9.*"] }, ["1.9.3", "1.9.3-alpine"]],
  };
  for (const [what, [filter, taken]] of Object.entries(cases)) {
    test(what, async () => assert.deepEqual(await filterTags(filter, tags), taken));
  }

  test("takes digits for numbers where not all are versions", async () => {
    const newest = 3;

    assert.deepEqual(await filterTags({ newest }, ["r9", "r10", "r010", "r1"]), [
      "r10",
      "r010",
      "r9",
    ]);
    assert.deepEqual(await filterTags({ newest }, ["20250101", "20241231", "main"]), [
      "main",
      "20250101",
      "20241231",
    ]);
    const long = "9".repeat(127);
    assert.deepEqual(await filterTags({ newest }, [`1${"0".repeat(127)}`, long]), [
      `1${"0".repeat(127)}`,
      long,
    ]);
  });

  test("gives the same whatever the order in which a registry lists", async () => {
    const tag = fc.stringMatching(/^[a-zA-Z0-9_.-]{1,12}$/);
    const filter = { exclude: ["x.*"], newest: 5 };
    const property = fc.asyncProperty(fc.uniqueArray(tag), async (list) => {
      const taken = await filterTags(filter, list);
      assert.deepEqual(await filterTags(filter, list.toReversed()), taken);
      assert.deepEqual(await filterTags(filter, list.toSorted()), taken);
      assert.ok(taken.length <= 5);
    });
    await fc.assert(property);
  });

  test("takes linear time where a backtracking engine would take for ever", async () => {
    const include = ["(a+)+b", "(a|a)*c", "(.*.*)*d"];

    assert.deepEqual(await filterTags({ include }, ["a".repeat(128)]), []);
  });

  test("gives up when its time is over", async () => {
    const include = ["(a|b)*a(a|b){40}(c|d)"];
    const tags = Array.from({ length: 2_000 }, (_, index) =>
      hash("sha512", String(index)).replace(/[0-9a-f]/g, (digit) => (digit < "8" ? "a" : "b")),
    );
    const signal = AbortSignal.timeout(30_000);
    await assert.rejects(
      filters.filterTags({ include }, tags, { budgetMs: 40, signal }),
      FilterTooSlowError,
    );
  });

  // A busy machine made filters that were quick seem slow.
  test("does not count the time in which others have the processor", async () => {
    const waiting = new Int32Array(new SharedArrayBuffer(4));
    const tags = ["1", "2", "3"];
    const slow = Object.assign([...tags], {
      *[Symbol.iterator](): ArrayIterator<string> {
        for (const tag of tags) {
          Atomics.wait(waiting, 0, 0, 40);
          yield tag;
        }
      },
    });
    const { signal } = new AbortController();

    assert.deepEqual(await filters.filterTags({}, slow, { budgetMs: 100, signal }), [
      "3",
      "2",
      "1",
    ]);
  });

  test("tells all that is wrong at once", async () => {
    const filter = { include: ["a(?=b)", "fine"], exclude: ["(a)\\1", "["], semver: "one" };
    const problems = tagFilterProblems(filter);

    assert.deepEqual(
      problems.map(({ path, value }) => [path, value]),
      [
        [".include[0]", "a(?=b)"],
        [".exclude[0]", "(a)\\1"],
        [".exclude[1]", "["],
        [".semver", "one"],
      ],
    );
    assert.match(
      problems[0]?.message ?? "",
      /^must be a regular expression in RE2's syntax \(.*\)$/,
    );
    assert.match(problems[3]?.message ?? "", /^must be a range of versions/);
    assert.deepEqual(await filterTags(filter, ["fine"]), [], "a slip fills no disks");
  });

  test("refuses expressions that repeat too much", () => {
    const heavy = [
      "(a{1000}|b{1000}){2}",
      "a{30}b{30}",
      "\\pL{1,1000}",
      "(a{100}){100}",
      "(a?b?c?d?){200}",
    ];

    assert.equal(tagFilterProblems({ include: heavy }).length, heavy.length);
    assert.deepEqual(
      tagFilterProblems({ include: ["[0-9a-f]{64}", "v?[0-9]{1,3}(-r[0-9]+)?"] }),
      [],
    );
  });
});
