import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { Failure } from "./failure.ts";
import {
  failed,
  found,
  missing,
  newlyOwed,
  postponed,
  renewed,
  restored,
  type RetryPolicy,
  type TrackedImage,
} from "./tracked-image.ts";

const start = new Date("2026-01-01T00:00:00Z");
const later = (seconds: number): Date => new Date(start.getTime() + seconds * 1_000);
/** Seconds until an image is due. */
const wait = ({ dueMs }: TrackedImage, from: Date): number => (dueMs - from.getTime()) / 1_000;

const longest: RetryPolicy = {
  errorThreshold: 3,
  minMs: 10_000,
  maxMs: 600_000,
  random: () => 0,
};
const notFound: Failure = { reason: "NotFound", message: "no such tag" };
const held = { sizeBytes: 1 };

function failedTimes(times: number): TrackedImage {
  let image = newlyOwed("r.io/x:1", start);
  for (let time = 1; time <= times; time++) image = failed(image, notFound, later(time), longest);
  return image;
}

describe("a new image", () => {
  test("is pending and due at once", () => {
    const image = newlyOwed("r.io/x:1", start);

    assert.equal(image.state, "pending");
    assert.ok(wait(image, start) <= 0);
  });

  test("is available since it was found, and the same value when found again", () => {
    const image = found(newlyOwed("r.io/x:1", start), held, later(5));

    assert.equal(image.state, "available");
    assert.deepEqual(image.since, later(5));
    assert.equal(found(image, { ...held }, later(9)), image);
  });

  test("keeps its time when only its digest changes", () => {
    const image = found(newlyOwed("r.io/x:1", start), held, later(5));
    const moved = found(image, { ...held, digest: "sha256:1" }, later(9));

    assert.deepEqual(moved.since, later(5));
    assert.equal(moved.held?.digest, "sha256:1");
  });
});

describe("an image that cannot be pulled", () => {
  test("stays pending until the threshold, and is an error from then on", () => {
    assert.deepEqual(
      [1, 2, 3, 4].map((times) => failedTimes(times).state),
      ["pending", "pending", "error", "error"],
    );
    assert.deepEqual(failedTimes(4).since, later(3));
  });

  test("is tried again after 10 s, then twice as long each time, up to 10 min", () => {
    const waits = [1, 2, 3, 6, 7, 50].map((times) => wait(failedTimes(times), later(times)));

    assert.deepEqual(waits, [10, 20, 40, 320, 600, 600]);
  });

  test("may be tried again any time up to that", () => {
    const policy = { ...longest, random: () => 0.9 };
    const image = failed(newlyOwed("r.io/x:1", start), notFound, start, policy);

    assert.equal(Math.round(wait(image, start)), 1);
  });

  test("keeps the first words of one error, and takes those of another", () => {
    const same = failed(failedTimes(3), { ...notFound, message: "again" }, later(9), longest);
    assert.equal(same.finding?.message, "no such tag");

    const denied: Failure = { reason: "Denied", message: "no" };
    assert.deepEqual(failed(same, denied, later(9), longest).finding, denied);
  });

  test("begins anew when what names it changes", () => {
    const image = renewed(failedTimes(3), later(60));

    assert.deepEqual(image, newlyOwed("r.io/x:1", later(60)));
  });

  test("has failed no more often if the runtime was away", () => {
    const image = postponed(failedTimes(1), later(60), longest);

    assert.deepEqual({ ...image, dueMs: 0 }, { ...failedTimes(1), dueMs: 0 });
    assert.equal(wait(image, later(60)), 10);
  });
});

describe("an image that somebody removed", () => {
  test("comes back after a few seconds, then later each time, up to 10 min", () => {
    let image = found(newlyOwed("r.io/x:1", start), held, start);
    const waits: number[] = [];
    for (let round = 1; round <= 9; round++) {
      image = missing(image, later(round), longest);
      waits.push(wait(image, later(round)));
      image = found(image, held, later(round));
    }

    assert.deepEqual(waits, [4, 8, 16, 32, 64, 128, 256, 512, 600]);
  });

  test("comes back soon again if it had stayed for long", () => {
    let image = found(newlyOwed("r.io/x:1", start), held, start);
    image = found(missing(image, start, longest), held, start);
    image = missing(image, later(601), longest);

    assert.equal(wait(image, later(601)), 4);
    assert.equal(image.finding?.reason, "Removed");
  });

  test("is nothing new if it was not there", () => {
    const image = newlyOwed("r.io/x:1", start);

    assert.equal(missing(image, later(1), longest), image);
  });
});

describe("restored()", () => {
  const reported = {
    reference: "r.io/x:1",
    state: "error",
    reason: "NotFound",
    message: "no such tag",
    attempts: 3,
    since: "2025-12-31T00:00:00Z",
  } as const;

  test("goes on with the count, the state and its time, and waits as before", () => {
    const image = restored(reported, { isSamePlan: true, now: start, policy: longest });

    assert.equal(image.state, "error");
    assert.equal(image.attempts, 3);
    assert.deepEqual(image.since, new Date(reported.since));
    assert.deepEqual(image.finding, notFound);
    assert.equal(wait(image, start), 40);
  });

  test("tries at once if something else is asked for now", () => {
    const image = restored(reported, { isSamePlan: false, now: start, policy: longest });

    assert.ok(wait(image, start) <= 0);
  });

  test("knows what was there, so that a removal meanwhile is noticed", () => {
    const available = { ...reported, state: "available", attempts: 0, digest: "d", sizeBytes: 1 };
    const options = { isSamePlan: true, now: start, policy: longest };
    const image = restored({ ...available, state: "available" }, options);

    assert.equal(found(image, { digest: "d", sizeBytes: 1 }, later(1)), image);
    assert.equal(missing(image, later(1), longest).finding?.reason, "Removed");
  });
});
