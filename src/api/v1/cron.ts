import { Cron } from "croner";

/** How far ahead a date is looked for. Only 29 February is longer in coming than a year, and never than eight. */
const horizonYears = 10;

const hourMs = 3_600_000;

/** A field of cron: its numbers, and the names of some. */
interface Field {
  readonly name: string;
  readonly min: number;
  readonly max: number;
  /** From `min` on. */
  readonly names?: readonly string[];
}

const fields: readonly Field[] = [
  { name: "minute", min: 0, max: 59 },
  { name: "hour", min: 0, max: 23 },
  { name: "day of the month", min: 1, max: 31 },
  {
    name: "month",
    min: 1,
    max: 12,
    names: ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
  },
  {
    name: "day of the week",
    min: 0,
    max: 7, // Sunday is 0 and 7.
    names: ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"],
  },
];

/** What stands for five fields, as in a CronJob. */
const nicknames: ReadonlyMap<string, string> = new Map([
  ["@hourly", "0 * * * *"],
  ["@daily", "0 0 * * *"],
  ["@midnight", "0 0 * * *"],
  ["@weekly", "0 0 * * 0"],
  ["@monthly", "0 0 1 * *"],
  ["@yearly", "0 0 1 1 *"],
  ["@annually", "0 0 1 1 *"],
]);

/** Longer texts are not read. */
const maxChars = 128;

/** A schedule, or its time zone, means nothing. */
export class ScheduleError extends Error {
  override readonly name = "ScheduleError";
  readonly code = "INVALID_SCHEDULE";
  readonly retryable = false;
  /** Whether the schedule or its time zone is to blame. */
  readonly field: "schedule" | "timeZone";
  /** What was expected, to stand after the value: `must …`. */
  readonly reason: string;

  constructor(field: "schedule" | "timeZone", text: string, reason: string) {
    super(`Cannot keep ${field} ${JSON.stringify(text.slice(0, maxChars))}: ${reason}`);
    this.field = field;
    this.reason = reason;
  }
}

/** When something is due, again and again. */
export class Schedule {
  readonly #fields: string;
  readonly #timeZone: string;

  /** Made by `parseSchedule`, which checks the fields. */
  constructor(checkedFields: string, timeZone: string) {
    this.#fields = checkedFields;
    this.#timeZone = timeZone;
  }

  /**
   * Finds the first date after another, or `undefined` if there is none in the next ten years.
   *
   * Where clocks are put forward, what is due in the hour that is left out is due after it. Where they are
   * put back, what is due in the hour that comes twice may be due in its first pass alone.
   */
  next(after: Date): Date | undefined {
    const year = after.getUTCFullYear();
    // A bound on its search, which has none and recurses. Somewhere it is the year before still.
    const years = `${year - 1}-${year + horizonYears}`;
    const cron = new Cron(`0 ${this.#fields} ${years}`, {
      mode: "7-part",
      timezone: this.#timeZone,
      paused: true, // And no function: it never sets a timer.
    });
    // In the second pass through an hour it finds what was due in the first: that is over.
    for (let hours = 0; hours < 24; hours += 1) {
      const found = cron.nextRun(new Date(after.getTime() + hours * hourMs)) ?? undefined;
      if (found === undefined || found > after) return found;
    }
    return undefined;
  }
}

/**
 * Parses a schedule as a CronJob has it: five fields (minute, hour, day of the month, month, day of the week) of
 * numbers, names, `*`, `?`, lists, ranges and steps, or one of `@hourly`, `@daily`, `@midnight`, `@weekly`,
 * `@monthly`, `@yearly`, `@annually`. A day is due if it is one of the month's or one of the week's, if both are
 * limited.
 *
 * @param timeZone - a name of the IANA's; UTC if not given.
 * @throws {ScheduleError} if it is something else, or never due, or there is no such time zone.
 */
export function parseSchedule(text: string, timeZone = "UTC"): Schedule {
  if (!isTimeZone(timeZone)) {
    const reason = 'must be the name of a time zone, like "Europe/Berlin"';
    throw new ScheduleError("timeZone", timeZone, reason);
  }
  const schedule = new Schedule(checkedFields(text), timeZone);
  // Whenever one looks: what is not due within ten years is not due in any.
  if (schedule.next(new Date(0)) === undefined) {
    throw new ScheduleError("schedule", text, "must be due at some time, and there is no such day");
  }
  return schedule;
}

function isTimeZone(text: string): boolean {
  try {
    return new Intl.DateTimeFormat("en", { timeZone: text }).resolvedOptions().timeZone !== "";
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return false;
  }
}

/** Checks the fields, and writes them with numbers alone. */
function checkedFields(text: string): string {
  const refuse = (reason: string): never => {
    throw new ScheduleError("schedule", text, reason);
  };
  if (text.length > maxChars) refuse(`must have at most ${maxChars} characters`);
  const nickname = nicknames.get(text.trim());
  const parts = (nickname ?? text).trim().split(/\s+/);
  if (parts.length !== fields.length) {
    const names = [...nicknames.keys()].join(", ");
    refuse(`must be five fields of cron, like "0 3 * * *", or one of ${names}`);
  }
  return fields
    .map((field, index) => {
      const items = (parts[index] ?? "").split(",");
      return items.map((item) => checkedItem(item, field) ?? refuse(expectation(field, item)));
    })
    .join(" ");
}

function expectation({ name, min, max, names }: Field, item: string): string {
  const named = names ? `, names like "${names[1]}"` : "";
  return `must have as its ${name} "*", ${min} to ${max}${named}, ranges like "2-5", steps like "*/2" or lists of these, not ${JSON.stringify(item)}`;
}

/** An item of a field's list with numbers for names, or `undefined` if it is none. */
function checkedItem(item: string, field: Field): string | undefined {
  const [, start = "", end, step] =
    /^([*?]|[0-9A-Za-z]{1,3})(?:-([0-9A-Za-z]{1,3}))?(?:\/([0-9]{1,2}))?$/.exec(item) ?? [];
  const every = step === undefined ? 1 : Number(step);
  if (every < 1 || every > field.max) return undefined;
  const steps = step === undefined ? "" : `/${every}`;
  if (start === "*" || start === "?") return end === undefined ? `*${steps}` : undefined;
  const from = numberOf(start, field);
  if (from === undefined) return undefined;
  if (end === undefined && step === undefined) return String(from);
  // `5/15` begins with 5, and goes on to the end.
  const to = end === undefined ? field.max : numberOf(end, field, from);
  return to === undefined || to < from ? undefined : `${from}-${to}${steps}`;
}

/** A number of a field, or of the first of a name that is not before `from`. */
function numberOf(text: string, { min, max, names = [] }: Field, from = min): number | undefined {
  const name = text.toUpperCase();
  const number = /^[0-9]+$/.test(text)
    ? Number(text)
    : min + names.findIndex((each, index) => each === name && min + index >= from);
  return number >= min && number <= max ? number : undefined;
}
