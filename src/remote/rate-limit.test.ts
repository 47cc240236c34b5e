import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";

import {
  afterAnswer,
  afterHearsay,
  afterLoss,
  readinessOf,
  unlimited,
  type RateState,
  type Readiness,
  type Told,
} from "./rate-limit.ts";

const nowMs = Date.parse("2026-01-01T00:00:00Z");
const hourMs = 3_600_000;

function told(
  headers: Record<string, string>,
  options: { status?: number; state?: RateState; request?: number; atMs?: number } = {},
): RateState {
  const { status = 200, state = unlimited, request = 1, atMs = nowMs } = options;
  const isThrottled = status === 429;
  const header = (name: string): string | undefined => headers[name];
  const answer = { status, header, isThrottled, request, nextRequest: request + 1 };
  return afterAnswer(state, answer, { nowMs: atMs, random: () => 0 });
}

const all = (left: number): number => left;

const readiness = (state: RateState, pending = 0, atMs = nowMs, shareOf = all) =>
  readinessOf(state, { nowMs: atMs, pending, counts: true, shareOf });

const spent: Record<string, [headers: Record<string, string>, waitMs: number]> = {
  "Docker Hub's": [
    { "ratelimit-limit": "100;w=21600", "ratelimit-remaining": "0;w=21600" },
    6 * hourMs,
  ],
  "draft 3 of the IETF's": [
    { "ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "0", "ratelimit-reset": "7" },
    7_000,
  ],
  "draft 7 of the IETF's": [{ ratelimit: "limit=100, remaining=0, reset=50" }, 50_000],
  "draft 10 of the IETF's": [
    { ratelimit: '"default";r=0;t=30', "ratelimit-policy": '"default";q=100;w=60' },
    30_000,
  ],
  "draft 10's without an end": [
    { ratelimit: '"default";r=0', "ratelimit-policy": '"default";q=100;w=60' },
    60_000,
  ],
  "X-RateLimit with seconds": [{ "x-ratelimit-remaining": "0", "x-ratelimit-reset": "9" }, 9_000],
  "X-RateLimit with a date": [
    { "x-ratelimit-remaining": "0", "x-ratelimit-reset": String(nowMs / 1_000 + 9) },
    9_000,
  ],
  "a limit that does not say for how long": [{ "ratelimit-remaining": "0" }, 60_000],
  "a limit for weeks": [{ "ratelimit-remaining": "0", "ratelimit-reset": "9999999" }, 6 * hourMs],
};

describe("afterAnswer()", () => {
  for (const [fact, [headers, waitMs]] of Object.entries(spent)) {
    test(`reads ${fact}`, () => {
      const state = told(headers);

      assert.deepEqual(readiness(state), { untilMs: nowMs + waitMs });
      assert.equal(readiness(state, 0, nowMs + waitMs), "go");
    });
  }

  const holds: Record<string, [status: number, headers: Record<string, string>, waitMs: number]> = {
    "Retry-After with 429": [429, { "retry-after": "20" }, 20_000],
    "Retry-After with 503": [503, { "retry-after": "20" }, 20_000],
    "429 without it, by the window": [
      429,
      { "ratelimit-remaining": "0", "ratelimit-reset": "5" },
      5_000,
    ],
    "429 that says nothing": [429, {}, 1_000],
  };
  for (const [fact, [status, headers, waitMs]] of Object.entries(holds)) {
    test(`holds all requests after ${fact}`, () => {
      const state = told(headers, { status });

      const found = readinessOf(state, { nowMs, pending: 0, counts: false, shareOf: all });

      assert.deepEqual(found, { untilMs: nowMs + waitMs });
    });
  }

  test("takes Retry-After of a success for nothing", () => {
    assert.equal(readiness(told({ "retry-after": "20" })), "go");
  });

  test("waits longer each time that a refusal says nothing, up to a minute", () => {
    let state = unlimited;
    const waits = [1, 2, 3, 4, 5, 6, 7, 8].map(() => {
      const atMs = Math.max(state.heldUntilMs, nowMs);
      state = told({}, { status: 429, state, atMs });
      return state.heldUntilMs - atMs;
    });

    assert.deepEqual(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
    assert.equal(told({}, { state, atMs: state.heldUntilMs }).refusals, 0);
  });

  test("believes the lowest of answers that overtook one another", () => {
    const state = told({ "ratelimit-remaining": "3;w=60" }, { request: 5 });

    const late = told({ "ratelimit-remaining": "7;w=60" }, { state, request: 2 });
    const next = told({ "ratelimit-remaining": "9;w=60" }, { state, request: 6 });

    assert.deepEqual([late.left, next.left], [3, 9]);
  });

  test("counts a window from when it was first seen", () => {
    const first = told({ "ratelimit-remaining": "1;w=60" });

    const last = told(
      { "ratelimit-remaining": "0;w=60" },
      { state: first, request: 2, atMs: nowMs + 40_000 },
    );

    assert.deepEqual(readiness(last, 0, nowMs + 40_000), { untilMs: nowMs + 60_000 });
  });

  test("lets no more out than are left", () => {
    const state = told({ "ratelimit-remaining": "2;w=60" });

    assert.deepEqual(
      [0, 1, 2, 3].map((pending) => readiness(state, pending)),
      ["go", "go", "after-answers", "after-answers"],
    );
  });

  test("lets out what the registry does not count", () => {
    const state = told({ "ratelimit-remaining": "0;w=60" });

    assert.equal(readinessOf(state, { nowMs, pending: 0, counts: false, shareOf: all }), "go");
  });

  test("never waits for ever, whatever the headers say", () => {
    const names = [
      "ratelimit",
      "ratelimit-remaining",
      "ratelimit-reset",
      "x-ratelimit-reset",
      "retry-after",
    ];
    const text = fc.oneof(fc.string(), fc.integer().map(String), fc.constant("0;w=99999999999999"));
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...names), text), (headers) => {
        for (const status of [200, 429, 503]) {
          const found = readiness(told(headers, { status }));
          if (typeof found === "object") assert.ok(found.untilMs <= nowMs + 6 * hourMs);
          else assert.equal(found, "go");
        }
      }),
    );
  });
});

/** Whether a request may go alone, and whether it may go beside another. */
const both = (state: RateState, atMs: number) => [0, 1].map((n) => readiness(state, n, atMs));

describe("readinessOf()", () => {
  const [alone, crowd]: [Readiness[], Readiness[]] = [
    ["go", "after-answers"],
    ["go", "go"],
  ];
  test("lets one go ahead alone after a hold, until it is answered or lost", () => {
    const held = told({ "retry-after": "20" }, { status: 429 });
    const endMs = nowMs + 20_000;
    const late = told({}, { state: held, atMs: nowMs + 1_000 });

    assert.deepEqual(both(held, endMs), alone);
    assert.deepEqual(both(late, endMs), alone);
    assert.deepEqual(both(told({}, { state: held, atMs: endMs }), endMs), crowd);
    assert.deepEqual(both(afterLoss(held, endMs), endMs), crowd);
  });

  test("lets one go ahead alone when a window has ended, though the next has no limit", () => {
    const spent = told({ "ratelimit-remaining": "0", "ratelimit-reset": "20" });
    const endMs = nowMs + 20_000;

    assert.deepEqual(both(spent, endMs), alone);
    assert.deepEqual(both(told({}, { state: spent, atMs: endMs }), endMs), crowd);
  });

  test("lets one go ahead alone when it was told too long ago what is left", () => {
    const state = told({ "ratelimit-remaining": "50;w=60" });

    assert.deepEqual(both(state, nowMs + 2_000), crowd);
    assert.deepEqual(both(state, nowMs + 2_001), alone);
  });

  test("lets all go at a registry that never said anything", () => {
    assert.deepEqual(both(unlimited, nowMs), crowd);
    assert.deepEqual(both(told({}), nowMs + hourMs), crowd);
  });

  test("gives a process no more than its share", () => {
    const state = told({ "ratelimit-remaining": "3", "ratelimit-reset": "20" });

    assert.equal(
      readiness(state, 0, nowMs, () => 1),
      "go",
    );
    assert.equal(
      readiness(state, 1, nowMs, () => 1),
      "after-answers",
    );
    assert.deepEqual(
      readiness(state, 0, nowMs, () => 0),
      { untilMs: nowMs + 20_000 },
    );
  });
});

/** The longer one has to wait, the higher. */
function patienceFor(found: Readiness): number {
  if (typeof found === "object") return found.untilMs;
  return found === "go" ? 0 : 1;
}

function hear(state: RateState, heard: Partial<Told>): RateState {
  const silent = { heldUntilMs: -Infinity, left: Infinity, resetsAtMs: -Infinity };
  return afterHearsay(state, { ...silent, toldAtMs: nowMs, ...heard }, nowMs);
}

describe("afterHearsay()", () => {
  test("believes the worse of what both were told", () => {
    const own = told({ "ratelimit-remaining": "5;w=60" });

    assert.equal(hear(own, { left: 2, resetsAtMs: nowMs + 9_000 }).left, 2);
    assert.equal(hear(own, { left: 7, resetsAtMs: nowMs + 90_000 }).left, 5);
    assert.equal(hear(own, { left: 7, resetsAtMs: nowMs + 90_000 }).resetsAtMs, nowMs + 90_000);
    assert.equal(hear(unlimited, { left: 7, resetsAtMs: nowMs + 90_000 }).left, 7);
  });

  test("believes what it was told itself since", () => {
    const own = told({ "ratelimit-remaining": "5;w=60" });
    const heard = { left: 2, resetsAtMs: nowMs + 9_000, toldAtMs: nowMs - 1 };

    assert.equal(hear(own, heard).left, 5);
    assert.equal(hear(unlimited, heard).left, 2);
  });

  test("hears nothing of a window that is over, and holds no longer than a window can last", () => {
    assert.deepEqual(hear(unlimited, { left: 0, resetsAtMs: nowMs }), unlimited);
    assert.equal(hear(unlimited, { heldUntilMs: Infinity }).heldUntilMs, nowMs + 6 * hourMs);
    const heard = hear(unlimited, { left: 0, resetsAtMs: Infinity, toldAtMs: Infinity });
    assert.deepEqual([heard.resetsAtMs, heard.toldAtMs], [nowMs + 6 * hourMs, nowMs]);
  });

  test("lets nobody send more than before", () => {
    const times = fc.integer({ min: nowMs - hourMs, max: nowMs + 7 * hourMs });
    const telling = fc.record({
      heldUntilMs: times,
      left: fc.oneof(fc.nat(20), fc.constant(Infinity)),
      resetsAtMs: times,
      toldAtMs: times,
    });
    const own = told({ "ratelimit-remaining": "5;w=60" });
    fc.assert(
      fc.property(telling, fc.nat(9), (heard, pending) => {
        const before = patienceFor(readiness(own, pending));
        assert.ok(patienceFor(readiness(hear(own, heard), pending)) >= before);
      }),
    );
  });
});
