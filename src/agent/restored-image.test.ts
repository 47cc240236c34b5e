import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { ReportedImage } from "#api/v1/node-report.ts";
import { restored, type Restart } from "./restored-image.ts";
import { failed, found, missing, newlyOwed, type TrackedImage } from "./tracked-image.ts";

const now = new Date("2026-01-01T00:00:00Z");
const policy = { errorThreshold: 3, minMs: 10_000, maxMs: 600_000, random: () => 0 };
const a = `sha256:${"a".repeat(64)}`;
const b = `sha256:${"b".repeat(64)}`;
const restart: Restart = { isSamePlan: true, expected: { followsTag: false }, now, policy };

const failure = {
  reference: "r.io/x:1",
  state: "error",
  reason: "NotFound",
  message: "no such tag",
  attempts: 3,
  since: "2025-12-31T00:00:00Z",
} as const;

const available: ReportedImage = {
  reference: "r.io/x:1",
  state: "available",
  digest: a,
  sizeBytes: 1,
  since: "2025-12-31T00:00:00Z",
};

const seconds = ({ dueMs }: TrackedImage): number => (dueMs - now.getTime()) / 1_000;

describe("restored()", () => {
  test("goes on with the count, the state, its time and reason, and waits as before", () => {
    const image = restored(failure, restart);

    assert.deepEqual([image.state, image.attempts], ["error", 3]);
    assert.deepEqual(image.since, new Date(failure.since));
    assert.deepEqual(image.finding, { reason: "NotFound", message: "no such tag" });
    assert.equal(seconds(image), 40);
  });

  test("tries at once if something else is asked for now", () => {
    assert.ok(seconds(restored(failure, { ...restart, isSamePlan: false })) <= 0);
  });

  test("knows what was there, so that a removal meanwhile is noticed", () => {
    const image = restored(available, restart);

    const held = { digests: [a], sizeBytes: 1 };
    assert.equal(found(image, held, restart), image);
    assert.equal(missing(image, now, policy).finding?.reason, "Removed");
  });

  test("knows that an image was removed again and again, and lets it come back as late as before", () => {
    const reason = "RemovedRepeatedly";
    const {
      digest: _,
      sizeBytes: __,
      ...pending
    } = { ...available, state: "pending" as const, reason };
    assert.equal(seconds(restored(pending, restart)), 16);

    const image = restored({ ...available, reason }, restart);
    assert.deepEqual([image.removals, image.finding], [3, { reason }]);
    assert.equal(seconds(missing(image, now, policy)), 4, "it was stable for a day");
  });

  test("keeps what an image waits for, and not the state of the node", () => {
    const pending = { reference: "r.io/x:1", state: "pending", since: available.since } as const;
    const reasons = ["WaitingForSlot", "InsufficientDisk", "DiskPressure"].map(
      (reason) => restored({ ...pending, reason }, restart).finding?.reason,
    );

    assert.deepEqual(reasons, ["WaitingForSlot", "InsufficientDisk", undefined]);
  });

  // The error of an image that follows its tag was forgotten with each restart of the agent.
  test("goes on with the error of an image of which the node has another version", () => {
    const expected = { digest: b, followsTag: true };
    const there = { digests: [a], sizeBytes: 1 };
    let before = found(newlyOwed(failure.reference, now), there, { expected, now, policy });
    for (let pull = 0; pull < 3; pull++) {
      before = failed(before, { reason: "NotFound", message: "no such tag" }, now, policy);
    }
    const image = restored({ ...failure, since: now.toISOString() }, { ...restart, expected });

    const after = found(image, there, { expected, now, policy });
    assert.deepEqual(after, before);
    const { outdated: _, ...alone } = before;
    assert.deepEqual(missing(image, now, policy), alone, "and of one that is not there at all");
  });

  test("goes on with what an outdated image waits for, or says that its tag has moved", () => {
    const expected = { digest: b, followsTag: true };
    const there = { digests: [a], sizeBytes: 1 };
    const reasonsAfter = (reported: ReportedImage): unknown => {
      const image = restored(reported, { ...restart, expected });
      return found(image, there, { expected, now, policy }).finding?.reason;
    };
    const pending = { reference: "r.io/x:1", state: "pending", since: available.since } as const;

    assert.equal(reasonsAfter({ ...pending, reason: "WaitingForSlot" }), "WaitingForSlot");
    assert.equal(reasonsAfter({ ...pending, reason: "TagMoved" }), "TagMoved");
    assert.equal(reasonsAfter({ ...pending, reason: "DiskPressure" }), "TagMoved");
    assert.equal(reasonsAfter({ ...pending, reason: "Removed" }), "TagMoved");
    assert.equal(reasonsAfter(pending), "TagMoved");
  });

  test("pulls what its registry gave otherwise again after a while, and not at once", () => {
    const expected = { digest: b, followsTag: true };
    const image = restored({ ...available, reason: "TagMoved" }, { ...restart, expected });

    assert.equal(seconds(image), 10);
    const held = { digests: [a], sizeBytes: 1 };
    assert.equal(found(image, held, { expected, now, policy }), image);
  });
});
