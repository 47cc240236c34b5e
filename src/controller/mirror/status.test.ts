import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { mirrors } from "#api/v1/resources.ts";
import { mirrorKind, type Mirror, type MirrorSpec, type MirrorStatus } from "#api/v1/mirror.ts";
import type { MirrorShard, MirrorShardStatus } from "#api/v1/mirror-shard.ts";
import { aMirrorShard } from "#test/mirror-shards.ts";
import { aMirror, repositories } from "#test/mirrors.ts";
import { sourcesOf } from "./sources.ts";
import { statusOf, type MirrorFacts } from "./status.ts";

const now = new Date("2026-01-01T12:00:00Z");
const digest = `sha256:${"a".repeat(64)}`;
const synced = { tags: 2, synced: 2, lastSyncTime: "2026-01-01T10:00:00Z" };

/** A Mirror of so many repositories, with what their shards tell. */
function scene(
  statuses: readonly (Partial<MirrorShardStatus> | undefined)[],
  spec: Partial<MirrorSpec> = {},
  facts: Partial<MirrorFacts> = {},
): { mirror: Mirror; facts: MirrorFacts } {
  const names = statuses.map((_, index) => [`a.test/x${index}`, "all"] as const);
  const mirror = aMirror({ repositories: repositories(Object.fromEntries(names)), ...spec });
  const { copies, refusals } = sourcesOf(mirror);
  const shards = statuses.flatMap((status, index) => {
    const { source = "", target = "" } = copies[index] ?? {};
    const full = status && { status: { observedGeneration: 1, ...status } };
    return status ? [aMirrorShard({ source, target }, full)] : [];
  });
  return {
    mirror,
    facts: {
      verdict: { copies, lost: [], refusals },
      shards,
      outdated: new Set(),
      blocked: [],
      unwritten: new Map(),
      totals: { bytesCopied: 0, removed: 0 },
      keptBy: () => undefined,
      now,
      ...facts,
    },
  };
}

function status(...args: Parameters<typeof scene>): MirrorStatus {
  const { mirror, facts } = scene(...args);
  const made = statusOf(mirror, facts);
  // What the API server would refuse would never be told.
  mirrorKind.schema.parse({ spec: mirror.spec, status: made });
  mirrors.parse({ ...mirror, status: made });
  return made;
}

function condition({ conditions }: MirrorStatus, type: string): string | undefined {
  const found = conditions?.find((each) => each.type === type);
  return found && `${found.status} ${found.reason}: ${found.message}`;
}

function removal(tag: string, hour: string): NonNullable<MirrorShardStatus["removals"]>[number] {
  return { tag, digest, dueTime: `2026-01-01T${hour}:00:00Z` };
}

describe("statusOf()", () => {
  test("sums up what shards tell", () => {
    const made = status(
      [
        { ...synced, nextSyncTime: "2026-01-01T14:00:00Z" },
        {
          tags: 6,
          synced: 1,
          pending: 2,
          failed: 2,
          throttled: 1,
          lastSyncTime: "2026-01-01T09:00:00Z",
          nextSyncTime: "2026-01-01T13:00:00Z",
        },
      ],
      {},
      { totals: { bytesCopied: 7, removed: 3 } },
    );

    assert.partialDeepStrictEqual(made, {
      observedGeneration: 1,
      repositories: 2,
      tags: 8,
      synced: 3,
      pending: 2,
      failed: 2,
      throttled: 1,
      progress: "3/8",
      bytesCopied: 7,
      removed: 3,
      lastSyncTime: "2026-01-01T09:00:00Z",
      nextSyncTime: "2026-01-01T13:00:00Z",
    });
  });

  test("is Ready when all is right and has been looked at", () => {
    const made = status([synced, synced]);
    assert.equal(condition(made, "Ready"), "True AllTagsSynced: 4 of 4 tags are right");
    assert.match(condition(made, "Progressing") ?? "", /^False NothingToCopy/);
    assert.equal(made.conditions?.length, 2);
  });

  const unready: Record<string, [Parameters<typeof scene>, RegExp]> = {
    "a shard is not there": [[[synced, undefined]], /^False Syncing/],
    "a shard has not been looked at": [
      [[synced, {}].map((each) => ({ ...each, observedGeneration: 0 }))],
      /^False Syncing/,
    ],
    "something is still to be copied": [[[{ ...synced, tags: 3, pending: 1 }]], /^False Copying/],
    "something failed": [
      [[{ ...synced, tags: 3, failed: 1 }]],
      /^False CopiesFailing: .*; 1 failed/,
    ],
    "a registry wants to be left alone": [
      [[{ ...synced, tags: 3, throttled: 1 }]],
      /^False Throttled/,
    ],
    "there is nothing to copy": [[[{ tags: 0 }]], /^False NoTags/],
    "it is suspended": [[[synced], { suspend: true }], /^False Suspended/],
    "a repository makes no sense": [
      [[synced], { repositories: repositories({ "a.test/x0": "all", "A/b": "all" }) }],
      /^False Stalled: 2 of 2 tags are right; 1 repositories are not copied/,
    ],
  };
  for (const [why, [args, expected]] of Object.entries(unready)) {
    test(`is not Ready when ${why}`, () => {
      assert.match(condition(status(...args), "Ready") ?? "", expected);
    });
  }

  test("has no time of the last look before all have been looked at", () => {
    assert.equal(status([synced, {}]).lastSyncTime, undefined);
    assert.equal(status([synced, undefined]).lastSyncTime, undefined);
  });

  test("does not cease to be Ready by what Coral adds to shards", () => {
    const { mirror, facts } = scene([synced]);
    const ready = { ...mirror, status: statusOf(mirror, facts) };
    const bumped = facts.shards.map((shard): MirrorShard => {
      return { ...shard, metadata: { ...shard.metadata, generation: 2 } };
    });

    const isReady = (of: Mirror): string | undefined =>
      condition(statusOf(of, { ...facts, shards: bumped }), "Ready");
    assert.match(isReady(ready) ?? "", /^True/);
    const changed = { ...ready, metadata: { ...ready.metadata, generation: 2 } };
    assert.match(isReady(changed) ?? "", /^False Syncing/);
    assert.match(isReady(mirror) ?? "", /^False Syncing/);
  });

  test("is equal if nothing has changed, however much later", () => {
    const { mirror, facts } = scene([{ ...synced, failed: 1, digestsDiffer: true }, undefined]);
    const first = statusOf(mirror, facts);
    const later = new Date(now.getTime() + 3_600_000);

    assert.deepEqual(statusOf({ ...mirror, status: first }, { ...facts, now: later }), first);
  });

  test("tells failures by image and by repository, sorted, and not more than ten", () => {
    const why = { reason: "NotFound", message: "manifest unknown" };
    const failures = [
      { tag: "2", ...why },
      { tag: "1", ...why },
      { tag: digest, ...why },
    ];
    const made = status([
      { failed: 3, failures },
      { failed: 1, failure: why },
    ]);

    assert.deepEqual(
      made.failures?.map(({ reference }) => reference),
      ["a.test/x0:1", "a.test/x0:2", `a.test/x0@${digest}`, "a.test/x1"],
    );
    const many = Array.from({ length: 10 }, (_, tag) => ({ tag: String(tag), ...why }));
    assert.equal(status([{ failures: many }, { failures: many }]).failures?.length, 10);
  });

  test("tells which copies could be removed, those that are due first, and who keeps them", () => {
    const made = status(
      [
        { removable: 20, removals: [removal("b", "13")] },
        { removable: 1, removals: [removal("a", "11")] },
      ],
      {},
      { keptBy: (_, { tag }) => (tag === "b" ? "Pod team/app" : undefined) },
    );

    assert.equal(made.removable, 21);
    assert.deepEqual(made.removals, [
      { reference: "target.test/a.test/x1:a", dueTime: "2026-01-01T11:00:00Z" },
      {
        reference: "target.test/a.test/x0:b",
        dueTime: "2026-01-01T13:00:00Z",
        keptBy: "Pod team/app",
      },
    ]);
  });

  test("has conditions only while there is something to say", () => {
    const problem = { name: "login", reason: "NotFound", message: "is not there" };
    const loud = {
      ...synced,
      secretProblems: [problem],
      digestsDiffer: true,
      deleteUnsupported: true,
    };
    const { mirror, facts } = scene([loud], { suspend: true, removalPolicy: "Delete" });
    const [copy] = facts.verdict.copies;
    assert.ok(copy);
    const lost = [{ copy, holder: "other/app" }];
    const made = statusOf(mirror, { ...facts, verdict: { ...facts.verdict, lost } });
    const said = ["Stalled", "SecretsFound", "DigestsDiffer", "DeleteUnsupported", "Suspended"];

    assert.deepEqual(
      said.map((type) => condition(made, type)),
      [
        'True DestinationCollision: a.test/x0 is not copied: the Mirror "other/app", which is older, copies to target.test/a.test/x0',
        'False NotFound: Secret "login" is not there',
        "True PlatformsSelected: copies of a.test/x0 have other digests, by platforms",
        "True RegistryRefuses: the registry removes nothing from target.test/a.test/x0",
        "True Suspended: spec.suspend is set",
      ],
    );
    const quiet = scene([synced]);
    const after = statusOf({ ...quiet.mirror, status: made }, quiet.facts);
    assert.deepEqual(
      after.conditions?.map(({ type }) => type),
      ["Ready", "Progressing"],
    );
  });

  test("tells why a shard is not there", () => {
    const { mirror, facts } = scene([undefined, undefined]);
    const made = statusOf(mirror, {
      ...facts,
      blocked: ["a.test/x0"],
      unwritten: new Map([["a.test/x1", "403 Forbidden"]]),
    });

    assert.equal(
      condition(made, "Stalled"),
      "True ShardNameTaken: another MirrorShard has the name of the one for a.test/x0; the API server does not take the MirrorShard for a.test/x1: 403 Forbidden",
    );
    assert.match(condition(made, "Ready") ?? "", /^False Stalled: .*; 2 repositories/);
  });

  test("keeps the conditions of others", () => {
    const { mirror, facts } = scene([synced]);
    const foreign = {
      type: "NodesCanPull",
      status: "True",
      reason: "Pulled",
      message: "",
      lastTransitionTime: "2026-01-01T00:00:00Z",
    } as const;
    const before: MirrorStatus = { ...statusOf(mirror, facts), conditions: [foreign] };

    assert.deepEqual(statusOf({ ...mirror, status: before }, facts).conditions?.[0], foreign);
  });

  test("fits into the schema whatever 64 shards tell", () => {
    const long = { reason: "R".repeat(64), message: "é".repeat(256) };
    const worst: Partial<MirrorShardStatus> = {
      tags: 2 ** 31 - 1,
      failed: 2 ** 31 - 1,
      removable: 2 ** 31 - 1,
      failure: long,
      failures: Array.from({ length: 10 }, (_, index) => ({
        tag: `${index}${"t".repeat(120)}`,
        ...long,
      })),
      removals: Array.from({ length: 100 }, (_, index) => ({
        tag: `${index}${"t".repeat(120)}`,
        digest,
        dueTime: "2026-01-01T00:00:00Z",
      })),
      secretProblems: [{ name: "s".repeat(253), reason: "no word", message: long.message }],
    };
    const made = status(Array.from({ length: 64 }, () => worst));

    assert.equal(made.tags, 2 ** 31 - 1);
    assert.match(condition(made, "SecretsFound") ?? "", /^False Unknown/);
    assert.ok(JSON.stringify(made).length < 32_000);
  });
});
