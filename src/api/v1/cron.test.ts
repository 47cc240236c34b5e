import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { parseSchedule, ScheduleError } from "./cron.ts";

/** The first dates after another, in ISO 8601 without seconds. */
function datesOf(text: string, timeZone: string | undefined, after: string, count = 1): string[] {
  const schedule = parseSchedule(text, timeZone);
  const dates: string[] = [];
  for (let date = new Date(after); dates.length < count;) {
    const next = schedule.next(date);
    assert.ok(next);
    date = next;
    dates.push(date.toISOString().slice(0, 16));
  }
  return dates;
}

/** What is said of a schedule that is none. */
function refusalOf(text: string, timeZone?: string): string {
  try {
    parseSchedule(text, timeZone);
  } catch (error) {
    assert.ok(error instanceof ScheduleError);
    return `${error.field} ${error.reason}`;
  }
  return "nothing";
}

/** Items of a field that takes these numbers. */
function item([min, max]: [number, number]): fc.Arbitrary<string> {
  const number = fc.integer({ min, max });
  const range = fc.tuple(number, number).map(([one, other]) => {
    return `${Math.min(one, other)}-${Math.max(one, other)}/${(one % max) + 1}`;
  });
  return fc.oneof(fc.constantFrom("*", "?", "*/2"), number.map(String), range);
}

describe("parseSchedule()", () => {
  const wednesday = "2026-11-25T08:00:00Z";
  const due: Record<string, [text: string, timeZone: string | undefined, dates: string[]]> = {
    "fields in UTC": ["0 3 * * *", undefined, ["2026-11-26T03:00", "2026-11-27T03:00"]],
    "fields in a time zone": ["0 3 * * *", "Europe/Berlin", ["2026-11-26T02:00"]],
    "spaces around and between": ["  0  3 * * * ", undefined, ["2026-11-26T03:00"]],
    "names, in any case": ["0 0 * jan-MAR Mon", undefined, ["2027-01-04T00:00"]],
    "a range that ends with Sunday": ["0 0 * * SAT-SUN", undefined, ["2026-11-28T00:00"]],
    "Sunday as 7": ["0 0 * * 7", undefined, ["2026-11-29T00:00"]],
    "a list of ranges and steps": ["1,10-12/2 9 * * *", undefined, ["2026-11-25T09:01"]],
    "a step from a number on": ["50/5 * * * *", undefined, ["2026-11-25T08:50"]],
    "question marks": ["0 0 1 * ?", undefined, ["2026-12-01T00:00"]],
    "days of the month or of the week": ["0 0 31 4 MON", undefined, ["2027-04-05T00:00"]],
    "a leap day": ["0 0 29 2 *", undefined, ["2028-02-29T00:00", "2032-02-29T00:00"]],
    "a nickname": ["@hourly", undefined, ["2026-11-25T09:00", "2026-11-25T10:00"]],
  };
  for (const [what, [text, timeZone, dates]] of Object.entries(due)) {
    test(`reads ${what}`, () => {
      assert.deepEqual(datesOf(text, timeZone, wednesday, dates.length), dates);
    });
  }

  const form =
    'schedule must be five fields of cron, like "0 3 * * *", or one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually';
  const refused: Record<string, [text: string, refusal: string | RegExp, timeZone?: string]> = {
    "no text": ["", form],
    "a moment": ["2030-01-23T00:00:00", form],
    seconds: ["0 0 3 * * *", form],
    "a nickname that no CronJob has": ["@reboot", form],
    "an interval of Go's": ["@every 1h", form],
    "a time zone among the fields": ["TZ=Europe/Berlin 0 3 * * *", form],
    "a minute that is none": [
      "60 * * * *",
      'schedule must have as its minute "*", 0 to 59, ranges like "2-5", steps like "*/2" or lists of these, not "60"',
    ],
    "a weekday that is none": [
      "0 0 * * 1,FOO",
      /^schedule must have as its day of the week "\*", 0 to 7, names like "MON", .* not "FOO"$/,
    ],
    "a name in the wrong field": ["0 0 JAN * *", /as its day of the month .* not "JAN"$/],
    "a range backwards": ["0 5-1 * * *", /as its hour .* not "5-1"$/],
    "a step of nothing": ["*/0 * * * *", /as its minute .* not "\*\/0"$/],
    "a step without beginning": ["/5 * * * *", /as its minute .* not "\/5"$/],
    "an empty item": ["1,,2 * * * *", /as its minute .* not ""$/],
    "a day that no month has": [
      "0 0 31 2,4,6,9,11 *",
      "schedule must be due at some time, and there is no such day",
    ],
    "too long a text": [`${"0,".repeat(64)}0 * * * *`, "schedule must have at most 128 characters"],
    "a time zone that is none": [
      "@daily",
      'timeZone must be the name of a time zone, like "Europe/Berlin"',
      "Berlin",
    ],
  };
  for (const [what, [text, refusal, timeZone]] of Object.entries(refused)) {
    test(`refuses ${what}`, () => {
      const found = refusalOf(text, timeZone);

      if (typeof refusal === "string") assert.equal(found, refusal);
      else assert.match(found, refusal);
    });
  }

  test("names the value", () => {
    assert.throws(() => parseSchedule("never"), {
      name: "ScheduleError",
      message: `Cannot keep schedule "never": ${form.slice("schedule ".length)}`,
    });
  });
});

describe("Schedule.next()", () => {
  test("comes after the hour that a change of clocks leaves out", () => {
    const [first = "", second] = datesOf("30 2 * * *", "Europe/Berlin", "2027-03-27T12:00:00Z", 2);

    assert.match(first, /^2027-03-28T01:/);
    assert.equal(second, "2027-03-29T00:30");
  });

  test("does not come back to what was due in an hour that comes twice", () => {
    const after = "2026-10-25T01:10:00Z"; // 2:10 for the second time.

    assert.deepEqual(datesOf("30 2 * * *", "Europe/Berlin", after), ["2026-10-26T01:30"]);
  });

  const texts = fc
    .tuple(item([0, 59]), item([0, 23]), item([1, 28]), item([1, 12]), item([0, 7]))
    .map((parts) => parts.join(" "));
  const timeZones = fc.constantFrom("UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Gaza");
  const moments = fc.integer({ min: 0, max: 20 * 365 * 1_440 }).map((minutes) => {
    return new Date(Date.UTC(2020, 0) + minutes * 60_000);
  });

  test("is later, by a year at most, whatever the schedule", () => {
    fc.assert(
      fc.property(texts, timeZones, moments, (text, timeZone, after) => {
        const next = parseSchedule(text, timeZone).next(after);

        assert.ok(next && next > after);
        assert.ok(next.getTime() - after.getTime() < 367 * 86_400_000);
      }),
    );
  });

  test("neither fails nor takes long, whatever the text", () => {
    const characters = fc.constantFrom(...Array.from("0123456789*?,-/LW#+@JANSUN"));
    const field = fc.array(characters, { minLength: 1, maxLength: 8 });
    const anything = fc.array(
      field.map((letters) => letters.join("")),
      { maxLength: 7 },
    );
    fc.assert(
      fc.property(anything, (parts) => {
        assert.notEqual(refusalOf(parts.join(" ")), "");
      }),
    );
  });
});
