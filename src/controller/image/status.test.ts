import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { Image, ImageStatus } from "#api/v1/image.ts";
import type { Condition } from "#kube/types.ts";
import { anImage } from "#test/kinds.ts";
import { planOf } from "./plan.ts";
import { changesInMs, statusOf, type StatusFacts } from "./status.ts";
import type { ImageCounts, StateCounts } from "./tally.ts";

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
  const common = { oldestLateMs: undefined, newNodeGraceMs: graceMs, now };
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

  test("says which fields have no effect yet, and is Ready all the same", () => {
    const asking = anImage({ imagePullPolicy: "Always", maxConcurrentNodes: 1 });
    const status = statusOf(asking, facts(asking, countsOf({ available: 1 })));

    assert.match(
      conditionOf(status, "FieldsSupported")?.message ?? "",
      /imagePullPolicy: "Always" has no effect yet; spec\.maxConcurrentNodes has no effect yet/,
    );
    assert.equal(conditionOf(status, "Ready")?.status, "True");
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
