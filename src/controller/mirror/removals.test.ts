import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { MirrorShard, MirrorShardStatus } from "#api/v1/mirror-shard.ts";
import { aMirrorShard } from "#test/mirror-shards.ts";
import { aMirror, repositories } from "#test/mirrors.ts";
import { Claims } from "./claims.ts";
import { imageKeys } from "./image-keys.ts";
import { nextDueMs, RemovalCheck, type RemovalFacts } from "./removals.ts";
import { sourcesOf, type Copy } from "./sources.ts";
import type { Candidate } from "./status.ts";

const now = new Date("2026-01-02T00:00:00Z");
const digest = (hex: string): string => `sha256:${hex.repeat(64)}`;
const due = "2026-01-01T00:00:00Z";
const target = "target.test/source.test/org/app";
const mirror = aMirror({
  removalPolicy: "Delete",
  repositories: repositories({ "source.test/org/app": ["1"] }),
});

function shardWith(removals: NonNullable<MirrorShardStatus["removals"]>): MirrorShard {
  const status = { observedGeneration: 1, removable: removals.length, removals };
  return aMirrorShard({ target }, { status });
}

const copy = firstOf(mirror);
const candidate = { tag: "old", digest: digest("a"), dueTime: due };
const shard = shardWith([candidate]);

/** Facts in which something refers to the images given, and other Mirrors are there. */
function facts(
  images: readonly string[] = [],
  {
    others = [],
    ...more
  }: Partial<RemovalFacts> & { others?: readonly ReturnType<typeof aMirror>[] } = {},
): RemovalFacts {
  const claims = new Claims();
  for (const each of [mirror, ...others]) claims.set(each);
  const keys = new Set(images.flatMap(imageKeys));
  const users = { userOf: (key: string) => (keys.has(key) ? "Pod team/app" : undefined) };
  return { mirror, claims, users, now, ...more };
}

function firstOf(of: typeof mirror): Copy {
  const [first] = sourcesOf(of).copies;
  assert.ok(first);
  return first;
}

function other(spec: Parameters<typeof aMirror>[0]): ReturnType<typeof aMirror> {
  return aMirror(spec, { name: "other", creationTimestamp: "2026-01-01T00:00:01Z" });
}

function named(tags: readonly string[] | "all"): ReturnType<typeof repositories> {
  return repositories({ "source.test/org/app": tags });
}

function approvedRemovals(of: MirrorShard, known: RemovalFacts): unknown[] {
  return [...new RemovalCheck(known).approved(copy, of)];
}

function keeperOf(what: Candidate, known: RemovalFacts): string | undefined {
  return new RemovalCheck(known).keeperOf(copy, what);
}

const approved = [{ tag: "old", digest: digest("a") }];

describe("RemovalCheck.approved()", () => {
  test("approves what is due and nobody refers to", () => {
    assert.deepEqual(
      approvedRemovals(shard, facts([`${target}:1`, "other.test/app:old"])),
      approved,
    );
  });

  test("approves nothing before it is due", () => {
    const later = { ...candidate, dueTime: "2026-01-02T00:00:01Z" };
    const never = { ...candidate, dueTime: "9999-01-01T00:00:00+99:99" };
    assert.deepEqual(approvedRemovals(shardWith([later, never]), facts()), []);
    assert.equal(nextDueMs([shardWith([later, never, candidate])], now), 1_000);
    assert.equal(nextDueMs([shard, aMirrorShard()], now), undefined);
  });

  test("approves nothing with Retain, while suspended, or while the cluster is not known", () => {
    for (const spec of [{ removalPolicy: "Retain" as const }, { suspend: true }]) {
      const other = { ...mirror, spec: { ...mirror.spec, ...spec } };
      assert.deepEqual(approvedRemovals(shard, facts([], { mirror: other })), []);
    }
    assert.deepEqual(approvedRemovals(shard, facts([], { users: undefined })), []);
  });

  test("adds nothing before the worker has seen what the shard asks for, and withdraws all the same", () => {
    const unseen = { ...shard, metadata: { ...shard.metadata, generation: 2 } };
    assert.deepEqual(approvedRemovals(unseen, facts()), []);
    const known = { ...unseen, spec: { ...shard.spec, removals: approved } };
    assert.deepEqual(approvedRemovals(known, facts()), approved);
    assert.deepEqual(approvedRemovals(known, facts([`${target}:old`])), []);
  });

  test("approves some of many", () => {
    const removals = ["x", "y"].map((tag) => ({ ...candidate, tag }));
    assert.deepEqual(approvedRemovals(shardWith(removals), facts([`${target}:x`])), [
      { tag: "y", digest: digest("a") },
    ]);
  });
});

describe("RemovalCheck.keeperOf()", () => {
  const images: Record<string, string> = {
    "the copy by its tag": `${target}:old`,
    "the copy by its digest": `${target}@${digest("a")}`,
    "the copy by another tag and its digest": `${target}:other@${digest("a")}`,
    "the copy by its tag and another digest": `${target}:old@${digest("b")}`,
    "the copy under another spelling of its registry": "TARGET.test:443/source.test/org/app:old",
    "the source by its tag": "source.test/org/app:old",
    "the source by its digest": `source.test/org/app@${digest("a")}`,
  };
  for (const [what, image] of Object.entries(images)) {
    test(`names who refers to ${what}`, () => {
      assert.equal(keeperOf(candidate, facts([image])), "Pod team/app");
      assert.deepEqual(approvedRemovals(shard, facts([image])), []);
    });
  }

  const keepers: Record<string, Parameters<typeof aMirror>[0]> = {
    "selects the tag for the same target": { repositories: named(["old"]) },
    "selects the digest for the same target": {
      repositories: [
        { name: "source.test/org/app", digests: [digest("a")], listSelection: "listed" },
      ],
    },
    "selects all for the same target": { repositories: named("all") },
    "copies the tag from there": {
      registry: "far.test",
      repositories: repositories({ [target]: ["old"] }),
    },
  };
  for (const [what, spec] of Object.entries(keepers)) {
    test(`names another Mirror that ${what}`, () => {
      const known = facts([], { others: [other(spec)] });
      assert.equal(keeperOf(candidate, known), "Mirror team/other");
    });
  }

  test("names no Mirror that selects something else, or copies all that is there", () => {
    const others = [
      { repositories: named(["2"]) },
      { registry: "far.test", repositories: repositories({ [target]: "all" }) },
    ];
    for (const spec of others) {
      assert.equal(keeperOf(candidate, facts([], { others: [other(spec)] })), undefined);
    }
  });

  test("names the Mirror itself if it selects the tag again, but not for asking for all", () => {
    const spec = { ...mirror.spec, repositories: named(["old"]) };
    const claims = new Claims();
    claims.set({ ...mirror, spec });
    assert.equal(keeperOf(candidate, facts([], { claims })), "Mirror team/app");

    const all = new Claims();
    all.set({ ...mirror, spec: { ...mirror.spec, repositories: named("all") } });
    assert.equal(keeperOf(candidate, facts([], { claims: all })), undefined);
  });

  test("keeps everything where more Mirrors want the target than are looked at", () => {
    const others = Array.from({ length: 20 }, (_, index) =>
      aMirror({ repositories: named(["2"]) }, { name: `other-${index}`, uid: String(index) }),
    );
    assert.match(keeperOf(candidate, facts([], { others })) ?? "", /^Mirror team\/other-/);
  });

  test("is quick, however much 64 shards and 16 Mirrors name", () => {
    const tags = Array.from({ length: 200 }, (_, index) => `t${index}`);
    const others = Array.from({ length: 15 }, (_, index) =>
      aMirror({ repositories: named(tags) }, { name: `other-${index}`, uid: String(index) }),
    );
    const check = new RemovalCheck(facts([], { others }));
    const removals = Array.from({ length: 100 }, (_, index) => ({
      ...candidate,
      tag: `r${index}`,
    }));
    const start = performance.now();
    for (let count = 0; count < 64; count++) {
      assert.equal(check.approved({ ...copy }, shardWith(removals)).length, 100);
    }
    assert.ok(performance.now() - start < 2_000);
  });

  test("knows that no tag means latest", () => {
    const latest = { ...candidate, tag: "latest" };
    const others = [other({ repositories: named([]) })];
    assert.equal(keeperOf(latest, facts([], { others })), "Mirror team/other");
    assert.equal(keeperOf(candidate, facts([], { others })), undefined);
  });
});
