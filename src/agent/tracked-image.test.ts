import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { Failure } from "./failure.ts";
import type { HeldImage } from "./inventory.ts";
import {
  calmAtMs,
  failed,
  found,
  missing,
  newlyOwed,
  postponed,
  renewed,
  type Expected,
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
const a = `sha256:${"a".repeat(64)}`;
const b = `sha256:${"b".repeat(64)}`;
const held: HeldImage = { digests: [a], sizeBytes: 1 };
const anything: Expected = { followsTag: false };

/** `found()` with nothing expected, unless it is said. */
function foundAt(
  image: TrackedImage,
  has: HeldImage,
  now: Date,
  { expected = anything, wasPulled = false }: { expected?: Expected; wasPulled?: boolean } = {},
): TrackedImage {
  return found(image, has, { expected, now, policy: longest, wasPulled });
}

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
    const image = foundAt(newlyOwed("r.io/x:1", start), held, later(5));

    assert.equal(image.state, "available");
    assert.deepEqual(image.since, later(5));
    assert.equal(foundAt(image, { ...held }, later(9)), image);
  });

  test("keeps its time when only its digest changes", () => {
    const image = foundAt(newlyOwed("r.io/x:1", start), held, later(5));
    const moved = foundAt(image, { ...held, digests: [b] }, later(9));

    assert.deepEqual(moved.since, later(5));
    assert.deepEqual([image.held?.digest, moved.held?.digest], [a, b]);
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
    const image = postponed(failedTimes(1), { dueMs: later(60).getTime() });

    const unchanged = { dueMs: 0, postponements: 0 };
    assert.deepEqual({ ...image, ...unchanged }, { ...failedTimes(1), ...unchanged });
    assert.equal(wait(image, later(0)), 60);
  });
});

describe("a pull that has to wait", () => {
  const why = { reason: "WaitingForSlot", message: "full" };
  const dueMs = later(60).getTime();

  test("says for what, and how often it did", () => {
    const image = postponed(postponed(newlyOwed("r.io/x:1", start), { dueMs, why }), {
      dueMs,
      why,
    });

    assert.deepEqual([image.state, image.finding], ["pending", why]);
    assert.deepEqual([image.attempts, image.postponements], [0, 2]);
    assert.equal(failed(image, notFound, later(1), longest).postponements, 0);
  });

  test("leaves a failure what it was", () => {
    for (const times of [1, 3]) {
      const before = failedTimes(times);
      const image = postponed(before, { dueMs, why });

      assert.deepEqual([image.state, image.finding], [before.state, notFound]);
      assert.equal(image.dueMs, dueMs);
    }
  });
});

describe("a tag that names something else by now", () => {
  const moved = { expected: { digest: b, followsTag: false } };
  const followed = { expected: { digest: b, followsTag: true } };
  const available = foundAt(newlyOwed("r.io/x:1", start), held, start);

  test("leaves the image available, and is told of, until they agree", () => {
    const image = foundAt(available, held, later(1), moved);
    assert.deepEqual([image.state, image.finding?.reason], ["available", "TagMoved"]);
    assert.deepEqual([image.since, image.held?.digest], [start, a]);

    const agreed = foundAt(image, held, later(2), { expected: { digest: a, followsTag: false } });
    assert.equal(agreed.finding, undefined);
  });

  test("is nothing to tell of if the runtime knows no digest", () => {
    assert.equal(foundAt(available, { ...held, digests: [] }, later(1), moved).finding, undefined);
  });

  test("is the digest expected if the runtime knows several", () => {
    const several = foundAt(available, { ...held, digests: [a, b] }, later(1), moved);
    assert.deepEqual([several.held?.digest, several.finding], [b, undefined]);

    const unknown = foundAt(available, { ...held, digests: [a, b] }, later(1));
    assert.equal(unknown.held?.digest, undefined);
  });

  test("makes an image that follows it pending and due, until it has been pulled", () => {
    const image = foundAt(available, held, later(1), followed);
    assert.deepEqual([image.state, image.finding?.reason], ["pending", "TagMoved"]);
    assert.ok(wait(image, later(1)) <= 0);
    assert.equal(foundAt(image, held, later(2), followed), image);

    const pulled = foundAt(image, { ...held, digests: [b] }, later(3), {
      ...followed,
      wasPulled: true,
    });
    assert.deepEqual(
      [pulled.state, pulled.finding, pulled.outdated],
      ["available", undefined, undefined],
    );
    assert.deepEqual(pulled.since, later(3));
  });

  test("lets a pull of it fail like every other", () => {
    let image = foundAt(available, held, later(1), followed);
    image = failed(image, notFound, later(2), longest);
    assert.equal(foundAt(image, held, later(3), followed), image);

    assert.deepEqual([image.state, image.finding, image.attempts], ["pending", notFound, 1]);
    assert.equal(wait(image, later(2)), 10);
  });

  test("is pulled less and less often if the registry gives something else again", () => {
    let image = foundAt(available, held, start, followed);
    const waits: number[] = [];
    for (let round = 1; round <= 3; round++) {
      image = foundAt(image, held, later(round), { ...followed, wasPulled: true });
      assert.deepEqual([image.state, image.finding?.reason], ["available", "TagMoved"]);
      assert.equal(foundAt(image, held, later(round), followed), image);
      waits.push(wait(image, later(round)));
    }
    assert.deepEqual(waits, [10, 20, 40]);

    image = failed(image, notFound, later(9), longest);
    assert.deepEqual([image.state, image.attempts], ["available", 0]);
    assert.equal(wait(image, later(9)), 80);

    const another = { expected: { digest: `sha256:${"c".repeat(64)}`, followsTag: true } };
    assert.equal(foundAt(image, held, later(10), another).state, "pending");
  });

  test("is forgotten if the image is removed meanwhile", () => {
    const image = missing(foundAt(available, held, later(1), followed), later(2), longest);

    assert.deepEqual(
      [image.state, image.finding, image.outdated],
      ["pending", undefined, undefined],
    );
  });
});

describe("an image that somebody removed", () => {
  test("comes back after a few seconds, then later each time, up to 10 min", () => {
    let image = foundAt(newlyOwed("r.io/x:1", start), held, start);
    const waits: number[] = [];
    for (let round = 1; round <= 9; round++) {
      image = missing(image, later(round), longest);
      waits.push(wait(image, later(round)));
      image = foundAt(image, held, later(round));
    }

    assert.deepEqual(waits, [4, 8, 16, 32, 64, 128, 256, 512, 600]);
  });

  test("comes back soon again if it had stayed for long", () => {
    let image = foundAt(newlyOwed("r.io/x:1", start), held, start);
    image = foundAt(missing(image, start, longest), held, start);
    image = missing(image, later(601), longest);

    assert.equal(wait(image, later(601)), 4);
    assert.equal(image.finding?.reason, "Removed");
  });

  test("says so from the third time in short order, until it has stayed for long", () => {
    let image = foundAt(newlyOwed("r.io/x:1", start), held, start);
    const reasons: unknown[] = [];
    for (let round = 1; round <= 3; round++) {
      image = missing(image, later(round), longest);
      const away = image.finding?.reason;
      image = foundAt(image, held, later(round));
      reasons.push([away, image.finding?.reason]);
    }
    assert.deepEqual(reasons, [
      ["Removed", undefined],
      ["Removed", undefined],
      ["RemovedRepeatedly", "RemovedRepeatedly"],
    ]);

    assert.equal(foundAt(image, held, later(602)), image);
    assert.equal(calmAtMs(image, longest), later(603).getTime());
    const calm = foundAt(image, held, later(603));
    assert.deepEqual([calm.finding, calm.removals], [undefined, 0]);
    assert.equal(calmAtMs(calm, longest), Infinity);
  });

  test("is nothing new if it was not there", () => {
    const image = newlyOwed("r.io/x:1", start);

    assert.equal(missing(image, later(1), longest), image);
  });
});
