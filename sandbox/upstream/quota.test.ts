import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { generateTokenKey, signToken } from "#sandbox/token-realm/token.ts";
import { Quota, subjectOf } from "./quota.ts";

describe("Quota", () => {
  test("grants so many requests in a window, and says when there are more", () => {
    const quota = new Quota({ limit: 2, windowSeconds: 60 });

    const taken = [1_000, 2_000, 31_500, 61_000].map((ms) => quota.take("anna", ms));

    assert.deepEqual(
      taken.map(({ isGranted, headers }) => [isGranted, headers["ratelimit-remaining"]]),
      [
        [true, "1;w=60"],
        [true, "0;w=60"],
        [false, "0;w=60"],
        [true, "1;w=60"],
      ],
    );
    assert.deepEqual(taken[2]?.headers, {
      "ratelimit-limit": "2;w=60",
      "ratelimit-remaining": "0;w=60",
      "retry-after": "30",
    });
  });

  test("counts each login apart, and not what is given back", () => {
    const quota = new Quota({ limit: 1, windowSeconds: 60, isSilent: true });

    quota.take("anna", 0).giveBack();
    const [again, refused, other] = ["anna", "anna", "ben"].map((who) => quota.take(who, 1));
    refused?.giveBack();

    assert.deepEqual([again?.isGranted, refused?.isGranted, other?.isGranted], [true, false, true]);
    assert.deepEqual(other?.headers, {});
    assert.equal(quota.take("anna", 2).isGranted, false);
  });
});

describe("subjectOf()", () => {
  test("finds the user in a password and in a token", () => {
    const token = signToken(generateTokenKey(), { access: [], subject: "anna", time: new Date() });

    assert.equal(subjectOf({ scheme: "basic", username: "anna", secret: "a" }), "anna");
    assert.equal(subjectOf({ scheme: "bearer", secret: token }), "anna");
    assert.equal(subjectOf({ scheme: "bearer", secret: "opaque" }), "anybody");
    assert.equal(subjectOf(undefined), "anybody");
  });
});
