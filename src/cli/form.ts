import type * as z from "zod/mini";

import { isJsonObject } from "#json/json.ts";
import { nearestName } from "./nearest.ts";

type Schema = z.core.JSONSchema.BaseSchema;

/** Something in a file that cannot be used. */
export interface Problem {
  /** The field, like `spec.repositories[0].tags[1]`. */
  readonly path: string;
  /** What stands there, for people; empty if nothing does. */
  readonly value: string;
  /** What was expected, to stand after the value: `must …`. */
  readonly message: string;
}

export interface Form {
  readonly problems: readonly Problem[];
  /** The value without what is wrong in it; `undefined` if nothing is left of it. */
  readonly usable: unknown;
}

/**
 * Checks a value against a schema, in words for people and all at once: also for fields that the schema
 * does not know, which the API server would drop without a word.
 *
 * @param path - where the value stands, like `spec`.
 * @param expected - what a text must be that has a pattern, by its field's name: `must be …`.
 */
export function checkForm(
  schema: Schema,
  value: unknown,
  path: string,
  expected: Readonly<Record<string, string>>,
): Form {
  const fault = faultOf(schema, value, path, expected);
  if (fault !== undefined) return { problems: [problem(path, value, fault)], usable: undefined };
  if (schema.type === "object") return checkObject(schema, value, path, expected);
  if (schema.type === "array") return checkList(schema, value, path, expected);
  return { problems: [], usable: value };
}

/** Writes a value as an error shows it. */
export function formatValue(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  if (text === undefined) return "";
  return text.length <= 100 ? text : `${text.slice(0, 100).toWellFormed()}…`;
}

function problem(path: string, value: unknown, message: string): Problem {
  return { path, value: formatValue(value), message };
}

function checkObject(
  schema: Schema,
  value: unknown,
  path: string,
  expected: Readonly<Record<string, string>>,
): Form {
  if (!isJsonObject(value)) return { problems: [], usable: undefined };
  const fields = schema.properties ?? {};
  const known = Object.keys(fields);
  const problems: Problem[] = [];
  const usable: Record<string, unknown> = {};
  for (const [name, content] of Object.entries(value)) {
    const field = Object.hasOwn(fields, name) ? fields[name] : undefined;
    const place = `${path}.${name}`;
    if (typeof field !== "object")
      problems.push(problem(place, content, unknownField(name, known)));
    // What kubectl takes for a field that is not set.
    else if (content !== null) {
      const form = checkForm(field, content, place, expected);
      problems.push(...form.problems);
      if (form.usable !== undefined) usable[name] = form.usable;
    }
  }
  let isWhole = true;
  for (const name of schema.required ?? []) {
    if (value[name] === undefined || value[name] === null) {
      problems.push(problem(`${path}.${name}`, undefined, "must be there"));
    }
    if (usable[name] === undefined) isWhole = false;
  }
  return { problems, usable: isWhole ? usable : undefined };
}

function unknownField(name: string, known: readonly string[]): string {
  const nearest = nearestName(name, known);
  const rest = nearest === undefined ? known.join(", ") : `perhaps "${nearest}"`;
  return `must be a field that there is: ${rest}`;
}

function checkList(
  schema: Schema,
  value: unknown,
  path: string,
  expected: Readonly<Record<string, string>>,
): Form {
  const { items } = schema;
  if (!Array.isArray(value) || typeof items !== "object" || Array.isArray(items)) {
    return { problems: [], usable: undefined };
  }
  const forms = value.map((item, index) => checkForm(items, item, `${path}[${index}]`, expected));
  const isWhole = forms.every(({ usable }) => usable !== undefined);
  return {
    problems: forms.flatMap(({ problems }) => problems),
    usable: isWhole ? forms.map(({ usable }) => usable) : undefined,
  };
}

/** What is wrong with a value itself; what is in it comes after. */
function faultOf(
  schema: Schema,
  value: unknown,
  path: string,
  expected: Readonly<Record<string, string>>,
): string | undefined {
  const { type, maxItems, minimum, maximum } = schema;
  switch (type) {
    case "object":
      return isJsonObject(value) ? undefined : "must be an object with fields";
    case "array":
      if (!Array.isArray(value)) return "must be a list";
      return maxItems !== undefined && value.length > maxItems
        ? `must have at most ${maxItems} entries`
        : undefined;
    case "boolean":
      return typeof value === "boolean" ? undefined : "must be true or false";
    case "integer":
    case "number": {
      const least = minimum ?? -Infinity;
      const most = maximum ?? Infinity;
      const isFine = Number.isInteger(value) && Number(value) >= least && Number(value) <= most;
      return isFine ? undefined : `must be a whole number from ${least} to ${most}`;
    }
    case "string":
      return textFault(schema, value, path, expected);
    case "null":
    case undefined:
      return undefined;
  }
}

function textFault(
  { enum: words, minLength = 0, maxLength = Infinity, pattern }: Schema,
  value: unknown,
  path: string,
  expected: Readonly<Record<string, string>>,
): string | undefined {
  if (words) {
    const isOne = words.some((word) => word === value);
    return isOne
      ? undefined
      : `must be one of ${words.map((word) => JSON.stringify(word)).join(", ")}`;
  }
  // YAML takes 1.10 for a number, and drops its zero.
  if (typeof value === "number") return "must be text: put it in quotes";
  if (typeof value !== "string") return "must be text";
  if (value === "" && minLength > 0) return "must not be empty";
  const [, field = ""] = /([A-Za-z]+)(?:\[\d+\])?$/.exec(path) ?? [];
  const expectation = expected[field];
  if (value.length > maxLength) return expectation ?? `must have at most ${maxLength} characters`;
  if (value.length < minLength) return expectation ?? `must have at least ${minLength} characters`;
  if (pattern === undefined || new RegExp(pattern).test(value)) return undefined;
  return expectation ?? `must match ${pattern}`;
}
