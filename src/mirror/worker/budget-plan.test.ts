import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";

import type { RegistryBudgetSpec } from "#api/v1/registry-budget.ts";
import type { Told } from "#remote/rate-limit.ts";
import { endOf, newsOf, specOf, toldBy } from "./budget-plan.ts";

const nowMs = Date.parse("2026-01-01T00:00:00Z");
const hourMs = 3_600_000;
const at = (seconds: number): number => nowMs + seconds * 1_000;
const time = (seconds: number): string => new Date(at(seconds)).toISOString();

function known(told: Partial<Told> = {}): Told {
  return {
    heldUntilMs: -Infinity,
    left: Infinity,
    resetsAtMs: -Infinity,
    toldAtMs: nowMs,
    ...told,
  };
}

function shared(spec: Partial<RegistryBudgetSpec>): RegistryBudgetSpec {
  return { host: "hub.test", toldTime: time(0), ...spec };
}

describe("newsOf()", () => {
  const low = known({ left: 20, resetsAtMs: at(60) });
  const spent = known({ left: 0, resetsAtMs: at(60) });
  const held = known({ heldUntilMs: at(30) });
  const cases: Record<string, [Told, RegistryBudgetSpec | undefined, string]> = {
    "nothing of a registry that does not limit": [known(), undefined, "none"],
    "nothing of one that grants plenty": [
      known({ left: 33, resetsAtMs: at(60) }),
      undefined,
      "none",
    ],
    "that few are left": [low, undefined, "some"],
    "that none are left, at once": [spent, undefined, "urgent"],
    "a hold, at once": [held, undefined, "urgent"],
    "nothing of a hold that is over soon": [known({ heldUntilMs: at(0.9) }), undefined, "none"],
    "nothing of a window that is over": [known({ left: 0, resetsAtMs: at(0) }), undefined, "none"],
    "nothing that others know": [low, shared({ left: 20, resetTime: time(60) }), "none"],
    "nothing where others know worse": [low, shared({ left: 3, resetTime: time(60) }), "none"],
    "less than others know": [low, shared({ left: 21, resetTime: time(60) }), "some"],
    "what others knew of the last window": [low, shared({ left: 0, resetTime: time(0) }), "some"],
    "a hold that is longer than others know": [held, shared({ heldUntil: time(29) }), "urgent"],
    "no hold that ends as others know": [held, shared({ heldUntil: time(29.5) }), "none"],
    "what others say of a time to come": [
      held,
      shared({ heldUntil: "9999-01-01T00:00:00Z", toldTime: "9998-01-01T00:00:00Z" }),
      "urgent",
    ],
  };
  for (const [fact, [told, spec, news]] of Object.entries(cases)) {
    test(`tells ${fact}`, () => {
      assert.equal(newsOf(told, spec, { nowMs, workers: 2 }), news);
    });
  }
});

describe("specOf() and toldBy()", () => {
  test("leave out what is over", () => {
    const told = known({ heldUntilMs: at(0), left: 7, resetsAtMs: at(0) });

    assert.deepEqual(specOf("hub.test", told, nowMs), { host: "hub.test", toldTime: time(0) });
    assert.equal(
      toldBy(shared({ heldUntil: time(0), left: 3, resetTime: time(0) }), nowMs),
      undefined,
    );
  });

  test("give others what is known", () => {
    const ms = fc.integer({ min: nowMs + 1, max: nowMs + 5 * hourMs });
    const told = fc.record({
      heldUntilMs: ms,
      left: fc.nat(),
      resetsAtMs: ms,
      toldAtMs: fc.constant(nowMs),
    });
    fc.assert(
      fc.property(told, (each) => {
        assert.deepEqual(toldBy(specOf("hub.test", each, nowMs), nowMs), { ...each });
      }),
    );
  });
});

describe("endOf()", () => {
  test("is never more than six hours away, whatever an object says", () => {
    const text = fc.oneof(
      fc.string(),
      fc.date({ noInvalidDate: true }).map((date) => date.toISOString()),
      fc.integer({ min: -100_000, max: 100_000 }).map(time),
    );
    const spec = fc.record({
      host: fc.constant("hub.test"),
      heldUntil: text,
      left: fc.nat(),
      resetTime: text,
      toldTime: text,
    });
    fc.assert(
      fc.property(spec, (each) => {
        const endMs = endOf(each, nowMs);
        assert.ok(endMs <= nowMs + 6 * hourMs + 60_000);
        const told = toldBy(each, nowMs);
        assert.ok(!told || Math.max(told.heldUntilMs, told.resetsAtMs) <= endMs);
      }),
    );
  });
});
