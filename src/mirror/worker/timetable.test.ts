import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { nextSyncTime } from "./timetable.ts";

const now = new Date("2026-01-01T12:30:00Z");
const minuteMs = 60_000;
const hourMs = 60 * minuteMs;

function waitMs(spec: Parameters<typeof nextSyncTime>[0], chance = 0.5): number {
  return nextSyncTime(spec, { now, random: () => chance }).getTime() - now.getTime();
}

describe("nextSyncTime()", () => {
  test("is an hour away where nothing else is asked for", () => {
    assert.equal(waitMs({}), hourMs);
  });

  test("comes 10 % earlier or later than the interval", () => {
    assert.equal(waitMs({ interval: "1h30m" }), 90 * minuteMs);
    assert.equal(waitMs({ interval: "10m" }, 0), 9 * minuteMs);
    assert.equal(waitMs({ interval: "10m" }, 0.75), 10.5 * minuteMs);
  });

  test("comes when the schedule says so, in its time zone", () => {
    assert.equal(waitMs({ schedule: "0 14 * * *" }, 0), 1.5 * hourMs);
    assert.equal(waitMs({ schedule: "0 14 * * *", timeZone: "Europe/Berlin" }, 0), 0.5 * hourMs);
  });

  test("is never before the schedule, and late by a minute or 10 % of the time between two", () => {
    assert.equal(waitMs({ schedule: "0 14 * * *" }, 0.5), 1.5 * hourMs + 30_000);
    assert.equal(waitMs({ schedule: "*/5 * * * *" }, 0.5), 5 * minuteMs + 15_000);
  });

  test("is an hour away where what is asked for cannot be read, or never comes due", () => {
    const bad = [
      { interval: "soon" },
      { schedule: "never" },
      { schedule: "0 0 30 2 *" },
      { schedule: "0 0 * * *", timeZone: "Moon/North" },
    ];
    for (const spec of bad) assert.equal(waitMs(spec), hourMs, JSON.stringify(spec));
  });

  test("is at least ten seconds away, whatever is asked for", () => {
    const texts = fc.oneof(fc.string(), fc.constantFrom("0s", "1s", "0h", "* * * * *", "999999h"));
    const optional = { requiredKeys: [] };
    fc.assert(
      fc.property(
        fc.record({ interval: texts, schedule: texts, timeZone: texts }, optional),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (spec, chance) => assert.ok(waitMs(spec, chance) >= 10_000),
      ),
    );
  });
});
