import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { MirrorShard, MirrorShardSpec } from "#api/v1/mirror-shard.ts";
import type { Mirror } from "#api/v1/mirror.ts";
import { aMirror, repositories } from "#test/mirrors.ts";
import { isShardOf, mirrorKeyOf, planShards, shardName, type ShardPlan } from "./shards.ts";
import { sourcesOf } from "./sources.ts";

const cluster = "c0ffee";
const digest = `sha256:${"a".repeat(64)}`;

function plan(
  mirror: Mirror,
  there: readonly MirrorShard[] = [],
  removals: NonNullable<MirrorShardSpec["removals"]> = [],
): ShardPlan {
  const byName = new Map(there.map((shard) => [shard.metadata.name, shard]));
  return planShards({
    mirror,
    cluster,
    copies: sourcesOf(mirror).copies,
    shards: there.filter((shard) => mirrorKeyOf(shard) === "team/app"),
    get: (name) => byName.get(name),
    removalsOf: () => removals,
  });
}

const noStatus = { tags: 0, synced: 0, pending: 0, failed: 0, throttled: 0, bytesCopied: 0 };

/** What is there after a plan was carried out. */
function made({ create }: ShardPlan): MirrorShard[] {
  return create.map((shard, index) => ({
    ...shard,
    metadata: { ...shard.metadata, uid: `uid-${index}`, resourceVersion: "1", generation: 1 },
  }));
}

function runOf(run: string): string | undefined {
  const mirror = aMirror({}, { annotations: { "mirror.stvz.io/run": run } });
  return plan(mirror).create[0]?.spec.run;
}

const two = { repositories: repositories({ "a.test/x": ["1"], "a.test/y": "all" }) };

describe("planShards()", () => {
  test("makes one shard for each source, owned by the Mirror", () => {
    const { create, ...rest } = plan(aMirror(two));
    const [first] = create;

    assert.deepEqual(first, {
      metadata: {
        name: first?.metadata.name,
        namespace: "team",
        ownerReferences: [
          {
            apiVersion: "stvz.io/v1",
            kind: "Mirror",
            name: "app",
            uid: aMirror().metadata.uid,
            controller: true,
            blockOwnerDeletion: false,
          },
        ],
      },
      spec: {
        mirror: "app",
        cluster,
        source: "a.test/x",
        target: "target.test/a.test/x",
        tags: ["1"],
        listSelection: "listed",
        referrers: true,
        imagePullSecrets: [],
        gracePeriod: "24h",
        suspend: false,
      },
    });
    assert.equal(create.length, 2);
    assert.deepEqual(rest, { kept: [], update: [], delete: [], retired: [], blocked: [] });
  });

  test("takes over all that the Mirror says of how and when", () => {
    const mirror = aMirror(
      {
        platforms: ["linux/arm64"],
        tls: { plainHTTP: true, insecureSkipVerify: false },
        pushSecret: { name: "push" },
        imagePullSecrets: [{ name: "pull" }],
        schedule: "0 3 * * *",
        timeZone: "Europe/Berlin",
        suspend: true,
      },
      { annotations: { "mirror.stvz.io/run": "now" } },
    );
    const { platforms, tls, pushSecret, imagePullSecrets, schedule, timeZone } = mirror.spec;

    assert.partialDeepStrictEqual(plan(mirror).create[0]?.spec, {
      platforms,
      tls,
      pushSecret,
      imagePullSecrets,
      schedule,
      timeZone,
      suspend: true,
      run: "now",
    });
  });

  test("has a run of any length told by a text of bounded length", () => {
    assert.equal(runOf("x".repeat(1_000))?.length, 64);
    assert.notEqual(runOf("x".repeat(1_000)), runOf("x".repeat(1_001)));
  });

  test("changes nothing when all is as it is to be", () => {
    const shards = made(plan(aMirror(two)));
    const { kept, ...rest } = plan(aMirror(two), shards);

    assert.deepEqual(kept, shards);
    assert.deepEqual(rest, { create: [], update: [], delete: [], retired: [], blocked: [] });
  });

  test("changes shards whose spec differs, and removes those that are not wanted", () => {
    const shards = made(plan(aMirror(two)));
    const less = aMirror({ repositories: repositories({ "a.test/x": ["1", "2"] }) });
    const { create, update, delete: unwanted } = plan(less, shards);

    assert.deepEqual(create, []);
    assert.deepEqual(
      update.map(({ shard, spec }) => [shard.spec.source, spec.tags]),
      [["a.test/x", ["1", "2"]]],
    );
    assert.deepEqual(
      unwanted.map(({ spec }) => spec.source),
      ["a.test/y"],
    );
  });

  test("with Delete, keeps the shard of a repository that is dropped until its copies are gone", () => {
    const removalPolicy = "Delete";
    const status = { ...noStatus, observedGeneration: 1, tags: 1, synced: 1 };
    const shards = made(plan(aMirror({ ...two, removalPolicy }))).map((shard) => ({
      ...shard,
      status,
    }));
    const less = aMirror({ repositories: repositories({ "a.test/x": ["1"] }), removalPolicy });
    const first = plan(less, shards);
    assert.deepEqual(first.delete, []);
    const [retiring] = first.update;
    assert.equal(retiring?.spec.source, "a.test/y");
    assert.equal(retiring.spec.retired, true);

    const approved = [{ tag: "old", digest }];
    const metadata = { ...retiring.shard.metadata, generation: 2 };
    const retired = { ...retiring.shard, metadata, spec: retiring.spec };
    const rest = shards.filter((shard) => shard !== retiring.shard);
    const waiting = { ...retired, status: { ...status, observedGeneration: 2, removable: 1 } };
    const second = plan(less, [...rest, waiting], approved);
    assert.deepEqual(second.update.find(({ spec }) => spec.retired)?.spec.removals, approved);
    assert.deepEqual(
      second.retired.map(({ copy }) => copy.target),
      [retired.spec.target],
    );

    const done = { ...retired, status: { ...status, observedGeneration: 2 } };
    assert.deepEqual(plan(less, [...rest, done]).delete, [done]);
    const unsupported = { ...waiting, status: { ...waiting.status, deleteUnsupported: true } };
    assert.deepEqual(plan(less, [...rest, unsupported]).delete, [unsupported]);
    const retaining = aMirror({ repositories: less.spec.repositories });
    assert.deepEqual(plan(retaining, [...rest, waiting]).delete, [waiting]);
  });

  test("puts approved removals into the spec, and takes them out", () => {
    const mirror = aMirror();
    const shards = made(plan(mirror));
    const approved = [{ tag: "old", digest }];
    const { update } = plan(mirror, shards, approved);
    assert.deepEqual(update[0]?.spec.removals, approved);

    const after = shards.map((shard) => ({
      ...shard,
      spec: { ...shard.spec, removals: approved },
    }));
    assert.deepEqual(plan(mirror, after, approved).update, []);
    assert.equal(plan(mirror, after).update[0]?.spec.removals, undefined);
  });

  test("approves nothing together with another change: it was told of something else", () => {
    const approved = [{ tag: "old", digest }];
    const shards = made(plan(aMirror()));
    const moved = aMirror({ registry: "else.test" });

    assert.deepEqual(
      plan(moved, shards, approved).update.map(({ spec }) => [spec.target, spec.removals]),
      [["else.test/source.test/org/app", undefined]],
    );
  });

  test("leaves alone what belongs to somebody else, and says what it is in the way of", () => {
    const [shard] = made(plan(aMirror()));
    assert.ok(shard);
    const owner = { apiVersion: "v1", kind: "ConfigMap", name: "app", uid: "1", controller: true };
    const foreign = { ...shard, metadata: { ...shard.metadata, ownerReferences: [owner] } };
    assert.deepEqual(plan(aMirror(), [foreign]), {
      kept: [],
      create: [],
      update: [],
      delete: [],
      retired: [],
      blocked: ["source.test/org/app"],
    });
  });

  test("removes shards that have lost their owner, and waits for it", () => {
    const [shard] = made(plan(aMirror()));
    assert.ok(shard);
    const owner = { apiVersion: "v1", kind: "ConfigMap", name: "app", uid: "1", controller: false };
    for (const ownerReferences of [[], [owner]]) {
      const orphan: MirrorShard = { ...shard, metadata: { ...shard.metadata, ownerReferences } };
      const { kept, create, delete: unwanted, blocked } = plan(aMirror(), [orphan]);
      assert.deepEqual([kept, create, unwanted, blocked], [[], [], [orphan], []]);
    }
  });

  test("removes shards of an earlier Mirror of the name, and waits for it", () => {
    const shards = made(plan(aMirror({}, { uid: "earlier" })));
    const { kept, create, delete: unwanted, blocked } = plan(aMirror(), shards);

    assert.deepEqual([kept, create, unwanted, blocked], [[], [], shards, []]);
  });

  test("does nothing to shards that are being deleted", () => {
    const going = made(plan(aMirror(two))).map((shard) => ({
      ...shard,
      metadata: { ...shard.metadata, deletionTimestamp: "2026-01-01T00:00:00Z" },
    }));
    const less = aMirror({ repositories: repositories({ "a.test/x": "all" }) });

    assert.deepEqual(plan(less, going), {
      kept: [],
      create: [],
      update: [],
      delete: [],
      retired: [],
      blocked: [],
    });
  });
});

describe("shardName()", () => {
  test("is a name that an object can have, whatever the Mirror's is", () => {
    for (const name of ["a", "a".repeat(253), `${"a".repeat(39)}.b`, `${"a".repeat(39)}-b`]) {
      const shard = shardName(aMirror({}, { name }), "a.test/x");
      assert.match(shard, /^[a-z0-9]+(-[a-z0-9]+)*$/);
      assert.ok(shard.length <= 63);
    }
  });

  test("differs by source and by Mirror", () => {
    const long = "a".repeat(60);
    const names = [
      shardName(aMirror({}, { name: `${long}1` }), "a.test/x"),
      shardName(aMirror({}, { name: `${long}2` }), "a.test/x"),
      shardName(aMirror({}, { name: `${long}2` }), "a.test/y"),
    ];
    assert.equal(new Set(names).size, 3);
  });
});

test("a shard belongs to the Mirror that controls it", () => {
  const [shard] = made(plan(aMirror()));
  assert.ok(shard);

  assert.equal(mirrorKeyOf(shard), "team/app");
  assert.equal(isShardOf(shard, aMirror()), true);
  assert.equal(isShardOf(shard, aMirror({}, { uid: "other" })), false);
});
