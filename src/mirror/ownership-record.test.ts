import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import {
  claimTags,
  forgetTags,
  formatRecord,
  leftoversOf,
  ownershipTag,
  parseRecord,
  settleTags,
  type RecordedTag,
  type RunFindings,
} from "./ownership-record.ts";
import { ownershipTagPattern } from "./ownership-tag.ts";

const owner = { cluster: "c", namespace: "team", mirror: "app" };
const a = `sha256:${"a".repeat(64)}`;
const b = `sha256:${"b".repeat(64)}`;
const early = new Date("2026-01-01T00:00:00Z");
const now = new Date("2026-01-02T00:00:00Z");

function found(facts: {
  copied?: Record<string, string>;
  unchanged?: Record<string, string>;
  selected?: readonly string[];
  isComplete?: boolean;
}): RunFindings {
  const { copied = {}, unchanged = {}, isComplete = true } = facts;
  const { selected = [...Object.keys(copied), ...Object.keys(unchanged)] } = facts;
  return {
    copied: new Map(Object.entries(copied)),
    unchanged: new Map(Object.entries(unchanged)),
    selected: new Set(selected),
    isComplete,
  };
}

const recorded = (tags: Record<string, RecordedTag>): Map<string, RecordedTag> =>
  new Map(Object.entries(tags));

function settle(tags: Record<string, RecordedTag>, facts: Parameters<typeof found>[0]): object {
  return Object.fromEntries(settleTags(recorded(tags), found(facts), now));
}

const digests = fc.constantFrom(a, b);
const names = fc
  .stringMatching(/^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,9}$/)
  .filter((tag) => tag !== "__proto__");
const dates = fc.date({ min: new Date(0), max: new Date("2100-01-01"), noInvalidDate: true });
const entries = fc.record(
  { digest: digests, unselectedSince: dates },
  { requiredKeys: [], noNullPrototype: true },
);
const tagMaps = fc.array(fc.tuple(names, entries)).map((list) => new Map(list));

describe("ownershipTag()", () => {
  test("names a tag that is never copied, another one for each owner", () => {
    const owners = [
      owner,
      { ...owner, cluster: "d" },
      { ...owner, namespace: "team2" },
      { ...owner, mirror: "2app" },
      { cluster: "cteam", namespace: "app", mirror: "" },
    ];
    const tags = owners.map(ownershipTag);

    for (const tag of tags) assert.match(tag, ownershipTagPattern);
    assert.equal(new Set(tags).size, owners.length);
  });
});

describe("parseRecord()", () => {
  test("reads what was formatted", () => {
    fc.assert(
      fc.property(tagMaps, (tags) => {
        const bytes = formatRecord({ owner, tags });
        assert.ok(bytes);
        assert.deepEqual(parseRecord(bytes), { owner, tags });
      }),
    );
  });

  test("reads as many tags as are recorded at most", () => {
    const names = Array.from({ length: 40_000 }, (_, index) => `v${index}`);
    const tags = new Map<string, RecordedTag>(names.map((tag) => [tag, { digest: a }]));
    const bytes = formatRecord({ owner, tags });
    assert.ok(bytes);

    assert.equal(parseRecord(bytes)?.tags.size, 40_000);
    assert.equal(formatRecord({ owner, tags: new Map([...tags, ["more", {}]]) }), undefined);
  });

  const fine = { owner, tags: { 1: { digest: a, unselectedSince: "2026-01-01T00:00:00.000Z" } } };
  const wrongs: Record<string, unknown> = {
    "no object": [],
    "no owner": { tags: {} },
    "an owner without a name": { ...fine, owner: { ...owner, mirror: "" } },
    "no tags": { owner },
    "a list of tags": { owner, tags: ["1"] },
    "a tag that is none": { owner, tags: { "../x": {} } },
    "a record of a record": { owner, tags: { [ownershipTag(owner)]: { digest: a } } },
    "a digest that is none": { owner, tags: { 1: { digest: "sha256:1" } } },
    "a time that is none": { owner, tags: { 1: { digest: a, unselectedSince: "yesterday" } } },
    "a tag that says nothing": { owner, tags: { 1: null } },
  };
  for (const [fact, value] of Object.entries(wrongs)) {
    test(`refuses ${fact}`, () => {
      assert.equal(parseRecord(Buffer.from(JSON.stringify(value))), undefined);
    });
  }

  test("refuses what is no JSON, is too large, or nests too deep", () => {
    const padding = " ".repeat(5 << 20);
    for (const text of ["", "{", `${JSON.stringify(fine)}${padding}`, "[".repeat(100_000)]) {
      assert.equal(parseRecord(Buffer.from(text)), undefined);
    }
  });

  test("leaves out what a later version may add", () => {
    const bytes = Buffer.from(JSON.stringify({ ...fine, later: true }));

    const tags = recorded({ 1: { digest: a, unselectedSince: early } });
    assert.deepEqual(parseRecord(bytes), { owner, tags });
  });

  test("is not misled by a tag of a name that objects know", () => {
    const bytes = Buffer.from(
      `{"owner":${JSON.stringify(owner)},"tags":{"__proto__":{"digest":"${a}"}}}`,
    );

    assert.deepEqual(parseRecord(bytes)?.tags, new Map());
  });
});

describe("claimTags()", () => {
  test("adds tags without a digest, and notes of those on record that they may get another", () => {
    const claimed = claimTags(recorded({ 1: { digest: a }, 2: { digest: b } }), ["2", "3"]);

    assert.deepEqual(Object.fromEntries(claimed), {
      1: { digest: a },
      2: { digest: b, isMoving: true },
      3: {},
    });
  });

  test("adds nothing that cannot be recorded", () => {
    const claimed = claimTags(new Map(), ["__proto__", ownershipTag(owner), a, ""]);

    assert.deepEqual(claimed, new Map());
  });
});

describe("settleTags()", () => {
  test("fills in what was written for tags that are on record", () => {
    const settled = settle(
      { 1: {}, 2: {}, 3: { digest: a } },
      {
        copied: { 1: a, 3: b },
        unchanged: { 2: b },
      },
    );

    assert.deepEqual(settled, { 1: { digest: a }, 2: { digest: b }, 3: { digest: b } });
  });

  test("records no tag that was there before", () => {
    assert.deepEqual(settle({}, { copied: { 1: a }, unchanged: { 2: b } }), {});
  });

  test("keeps a tag that its owner moved before it was killed, and one that it did not get to", () => {
    const moving = { digest: a, isMoving: true };
    const settled = settle(
      { 1: moving, 2: moving, 3: moving, 4: moving },
      { copied: { 1: b }, unchanged: { 2: b, 3: a }, selected: ["1", "2", "3", "4"] },
    );

    assert.deepEqual(settled, {
      1: { digest: b },
      2: { digest: b },
      3: { digest: a },
      4: moving,
    });
  });

  test("lets go of a tag that somebody moved", () => {
    assert.deepEqual(
      settle({ 1: { digest: a }, 2: { digest: a } }, { unchanged: { 1: b, 2: a } }),
      {
        2: { digest: a },
      },
    );
  });

  test("says since when a copy is not asked for, as it was first seen", () => {
    const settled = settle(
      {
        new: { digest: a },
        old: { digest: a, unselectedSince: early },
        ahead: { digest: a, unselectedSince: new Date("2099-01-01T00:00:00Z") },
        back: { digest: a, unselectedSince: early },
      },
      { unchanged: { back: a } },
    );

    assert.deepEqual(settled, {
      new: { digest: a, unselectedSince: now },
      old: { digest: a, unselectedSince: early },
      ahead: { digest: a, unselectedSince: now },
      back: { digest: a },
    });
  });

  test("forgets what was never seen to be written once it is not asked for", () => {
    const claims = { failed: {}, dropped: {} };

    assert.deepEqual(settle(claims, { selected: ["failed"] }), { failed: {} });
  });

  test("takes nothing for left over while it is not known what is asked for", () => {
    const tags = { 1: { digest: a }, 2: { digest: a, unselectedSince: early }, 3: {} };

    assert.deepEqual(settle(tags, { selected: [], isComplete: false }), tags);
  });

  test("comes to the same if it is done again, and never records more tags", () => {
    const maps = fc.dictionary(names, digests);
    fc.assert(
      fc.property(tagMaps, maps, maps, fc.boolean(), (tags, copied, unchanged, isComplete) => {
        const findings = found({ copied, unchanged, isComplete });
        const once = settleTags(tags, findings, now);

        const others = { ...findings, copied: new Map(), unchanged: new Map() };
        assert.deepEqual(settleTags(once, others, now), once);
        assert.ok(new Set(once.keys()).isSubsetOf(new Set(tags.keys())));
        for (const { tag, unselectedSince } of leftoversOf(once, findings.selected)) {
          assert.equal(findings.selected.has(tag), false);
          if (isComplete) assert.ok(unselectedSince <= now);
        }
      }),
    );
  });
});

describe("forgetTags()", () => {
  test("forgets what is still recorded so", () => {
    const left = forgetTags(recorded({ 1: { digest: a }, 2: { digest: b }, 3: {} }), [
      { tag: "1", digest: a },
      { tag: "2", digest: a },
      { tag: "3", digest: a },
    ]);

    assert.deepEqual(Object.fromEntries(left), { 2: { digest: b }, 3: {} });
  });
});

describe("leftoversOf()", () => {
  test("lists what is not asked for, the oldest first", () => {
    const tags = recorded({
      late: { digest: a, unselectedSince: now },
      b: { digest: a, unselectedSince: early },
      a: { digest: b, unselectedSince: early },
      wanted: { digest: a },
      back: { digest: a, unselectedSince: early },
      unknown: { unselectedSince: early },
    });

    assert.deepEqual(
      leftoversOf(tags, new Set(["back"])).map(({ tag }) => tag),
      ["a", "b", "late"],
    );
  });
});
