import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { Image, ImageStatus } from "#api/v1/image.ts";
import type { Condition } from "#kube/types.ts";
import { anImage } from "#test/kinds.ts";
import type { ImageCounts, StateCounts } from "./counts.ts";
import { planOf, type Planned } from "./plan.ts";
import { changesInMs, statusOf, type StatusFacts } from "./status.ts";

const debian = "docker.io/library/debian:bookworm";
const none: StateCounts = { available: 0, pending: 0, error: 0, unknown: 0 };
const graceMs = 600_000;
const now = new Date("2026-01-01T12:00:00Z");

function countsOf(nodes: Partial<StateCounts>, more: Partial<ImageCounts> = {}): ImageCounts {
  const all = { ...none, ...nodes };
  const totalNodes = all.available + all.pending + all.error + all.unknown;
  const references = [{ reference: debian, ...all }];
  return { nodes: all, totalNodes, excludedNodes: 0, references, ...more };
}

function facts(image: Image, counts: ImageCounts, more: Partial<StatusFacts> = {}): StatusFacts {
  const lookupProblems = { images: [], lists: [] };
  const nothingWrong = { isResolving: false, lookupProblems, secretProblems: [] };
  const common = { ...nothingWrong, oldestLateMs: undefined, newNodeGraceMs: graceMs, now };
  return { planned: planOf(image), counts, ...common, ...more };
}

function conditionOf(status: ImageStatus, type: string): Condition | undefined {
  return status.conditions?.find((condition) => condition.type === type);
}

describe("statusOf()", () => {
  const image = anImage();

  test("is Ready when every node holds every image", () => {
    const status = statusOf(image, facts(image, countsOf({ available: 3 })));
    const ready = conditionOf(status, "Ready");

    assert.deepEqual(
      [ready?.status, ready?.reason, ready?.message],
      ["True", "AllNodesHoldImages", "3 of 3 nodes hold every image"],
    );
    assert.equal(conditionOf(status, "Progressing")?.status, "False");
    assert.equal(status.observedGeneration, 1);
  });

  for (const [title, counts, reason] of [
    ["nodes are pulling", countsOf({ available: 2, pending: 1 }), "NodesPulling"],
    ["nodes have errors", countsOf({ pending: 2, error: 1 }), "NodesFailing"],
    ["nodes are silent", countsOf({ available: 2, unknown: 1 }), "NodesUnknown"],
    ["no node is selected", countsOf({}), "NoNodesMatch"],
    ["there is no image", countsOf({ available: 1 }, { references: [] }), "NoImages"],
  ] as const) {
    test(`is not Ready when ${title}`, () => {
      const ready = conditionOf(statusOf(image, facts(image, counts)), "Ready");
      assert.deepEqual([ready?.status, ready?.reason], ["False", reason]);
    });
  }

  test("counts the nodes that are ready, of all", () => {
    const status = statusOf(image, facts(image, countsOf({ available: 2, unknown: 1 })));
    assert.equal(status.ready, "2/3");
  });

  test("tells what a registry said the image is, of the platform on which it is largest", () => {
    const found = {
      digest: `sha256:${"a".repeat(64)}`,
      sizes: [
        { platform: "linux/amd64", sizeBytes: 2 },
        { platform: "linux/arm64", sizeBytes: 3 },
      ],
    };
    const planned = planOf(image, { found: () => found });
    const status = statusOf(image, facts(image, countsOf({ available: 1 }), { planned }));

    assert.deepEqual(
      status.images?.map(({ digest, sizeBytes }) => [digest, sizeBytes]),
      [[found.digest, 3]],
    );
  });

  test("is not Ready before all tags that are wanted are listed", () => {
    const all = anImage({
      repositories: [
        { name: "debian", tags: ["bookworm"], listSelection: "listed" },
        { name: "redis", listSelection: "all", filter: { newest: 2 } },
      ],
    });
    const counts = countsOf({ available: 1 });
    const reasonWith = (planned: Planned): string | undefined =>
      conditionOf(statusOf(all, facts(all, counts, { planned })), "Ready")?.reason;

    assert.equal(reasonWith(planOf(all)), "TagsNotListed");
    assert.equal(reasonWith(planOf(all, { listed: () => ["7"] })), "AllNodesHoldImages");
  });

  test("is not Ready before it is known what tags to follow name", () => {
    const always = anImage({ imagePullPolicy: "Always" });
    const counts = countsOf({ available: 1 });
    const status = statusOf(always, facts(always, counts, { isResolving: true }));
    assert.equal(conditionOf(status, "Ready")?.reason, "TagsNotResolved");
  });

  test("fits into etcd with 500 images that all fail with long texts", () => {
    const image256 = { reference: "", state: "error", since: "2026-01-01T00:00:00Z" } as const;
    const message = "<".repeat(256);
    const references = Array.from({ length: 500 }, (_, index) => ({
      reference: `r.io/${"x".repeat(245)}:${"t".repeat(124)}${index}`,
      ...none,
      error: 1,
      lastFailure: { node: "n".repeat(253), image: { ...image256, reason: "Denied", message } },
    }));
    const status = statusOf(image, facts(image, countsOf({ error: 1 }, { references })));
    const inGo = JSON.stringify(status).replaceAll("<", "\\u003c");
    assert.ok(inGo.length < 1_400_000, `${inGo.length}`);
  });

  test("has a condition for each kind of trouble, only while it lasts", () => {
    const remarked = new Map([
      ["TagMoved", [{ node: "n1", digest: "sha256:b" }]],
      ["RemovedRepeatedly", [{ node: "n1" }, { node: "n2" }]],
      ["InsufficientDisk", [{ node: "n3" }]],
    ] as const);
    const counts = countsOf({ available: 1 });
    const [reference] = counts.references;
    assert.ok(reference);
    const troubled = statusOf(
      image,
      facts(
        image,
        { ...counts, references: [{ ...reference, remarked }] },
        {
          lookupProblems: {
            images: [{ name: debian, reason: "Denied", message: "unauthorized: no" }],
            lists: [{ name: "debian", reason: "Unreachable", message: "" }],
          },
          secretProblems: [{ name: "login", reason: "SecretNotFound", message: "does not exist" }],
        },
      ),
    );
    const told = troubled.conditions?.map(({ type, status, reason }) => [type, status, reason]);

    assert.deepEqual(told?.slice(2), [
      ["PullSecretsFound", "False", "SecretNotFound"],
      ["TagsListed", "False", "Unreachable"],
      ["ReferencesResolved", "False", "Denied"],
      ["DigestsAgree", "False", "TagMoved"],
      ["ImagesKept", "False", "RemovedRepeatedly"],
      ["DiskSufficient", "False", "InsufficientDisk"],
    ]);
    assert.equal(
      conditionOf(troubled, "PullSecretsFound")?.message,
      'Secret "login" does not exist',
    );
    assert.equal(troubled.images?.[0]?.otherDigest, 1);

    const mended = statusOf({ ...image, status: troubled }, facts(image, counts));
    assert.deepEqual(
      mended.conditions?.map(({ type }) => type),
      ["Ready", "Progressing"],
    );
  });

  test("stays Ready while only new nodes are being filled, and no longer", () => {
    const wasReady = {
      ...image,
      status: statusOf(image, facts(image, countsOf({ available: 2 }))),
    };
    const counts = countsOf({ available: 2, pending: 1 });
    const young = facts(wasReady, counts, { oldestLateMs: now.getTime() - graceMs / 2 });
    const old = facts(wasReady, counts, { oldestLateMs: now.getTime() - graceMs });
    const filling = statusOf(wasReady, young);

    assert.equal(conditionOf(filling, "Ready")?.reason, "NewNodesFilling");
    assert.equal(changesInMs(filling, young), graceMs / 2);
    assert.equal(conditionOf(statusOf(wasReady, old), "Ready")?.status, "False");
    const changed = { ...wasReady, metadata: { ...image.metadata, generation: 2 } };
    assert.equal(
      conditionOf(statusOf(changed, { ...young, planned: planOf(changed) }), "Ready")?.status,
      "False",
      "what the new spec asks for was never Ready",
    );
  });

  test("names what was left out, keeps count, and is not Ready for it", () => {
    const repositories = ["Bad 1", "Bad 2", "Bad 3", "Bad 4", "debian"].map((name) => ({
      name,
      tags: ["bookworm"],
      listSelection: "listed" as const,
    }));
    const broken = anImage({ repositories });
    const status = statusOf(broken, facts(broken, countsOf({ available: 1 })));
    const valid = conditionOf(status, "ReferencesValid");

    assert.equal(valid?.status, "False");
    assert.match(valid?.message ?? "", /^spec\.repositories\[0\]\.name: "Bad 1" .*; and 1 more$/);
    assert.equal(conditionOf(status, "Ready")?.reason, "InvalidReferences");
  });

  test("drops a condition whose cause is gone, and leaves those of others alone", () => {
    const foreign = {
      type: "Approved",
      status: "True",
      reason: "Somebody",
      message: "",
      lastTransitionTime: "2025-01-01T00:00:00Z",
    } as const;
    const first = statusOf(image, facts(image, countsOf({ available: 1 }, { excludedNodes: 2 })));
    const before = {
      ...image,
      status: { ...first, conditions: [...(first.conditions ?? []), foreign] },
    };
    const after = statusOf(before, facts(before, countsOf({ available: 1 })));

    assert.equal(conditionOf(first, "NodesExcluded")?.status, "True");
    assert.equal(conditionOf(after, "NodesExcluded"), undefined);
    assert.deepEqual(conditionOf(after, "Approved"), foreign);
  });

  test("is equal to itself later when nothing changed, so that nothing is written", () => {
    const counts = countsOf({ available: 1, pending: 1 });
    const first = statusOf(image, facts(image, counts));
    const later = new Date(now.getTime() + 3_600_000);
    const second = statusOf({ ...image, status: first }, facts(image, counts, { now: later }));

    assert.deepEqual(second, first);
  });

  // The API server takes times that JavaScript does not, and one poisoned every status that named it.
  test("passes on a time that cannot be read", () => {
    const since = "9999-01-01T00:00:00+99:99";
    const failed = { reference: debian, state: "error" as const, attempts: 1, since };
    const references = [{ reference: debian, ...none, lastFailure: { node: "n1", image: failed } }];
    const status = statusOf(image, facts(image, countsOf({ error: 1 }, { references })));

    assert.equal(status.images?.[0]?.lastError?.time, since);
  });

  test("carries the last failure in the runtime's words", () => {
    const failed = {
      reference: debian,
      state: "error" as const,
      attempts: 3,
      reason: "Denied",
      message: "authorization failed",
      since: "2026-01-01T11:00:00Z",
    };
    const lastFailure = { node: "n1", image: failed };
    const references = [{ reference: debian, ...none, error: 1, lastFailure }];
    const status = statusOf(image, facts(image, countsOf({ error: 1 }, { references })));

    assert.deepEqual(status.images?.[0]?.lastError, {
      node: "n1",
      reason: "Denied",
      message: "authorization failed",
      time: "2026-01-01T11:00:00Z",
    });
  });
});
