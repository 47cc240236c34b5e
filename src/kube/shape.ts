import { isJsonObject, type JsonObject } from "#json/json.ts";
import type { KubeObject } from "./types.ts";

/** An object from outside lacks what Coral needs of it. Only a change of the object can help. */
export class MalformedObjectError extends Error {
  override readonly name = "MalformedObjectError";
  readonly code = "MALFORMED_OBJECT";
  readonly retryable = false;
  /** Where in the object, like `spec.containers[0].name`. */
  readonly field: string;

  constructor(field: string, wanted: string) {
    super(`Malformed object: "${field}" must be ${wanted}`);
    this.field = field;
  }
}

/** Checks that a value is a JSON object. */
export function requireObject(value: unknown, field: string): JsonObject {
  if (!isJsonObject(value)) throw new MalformedObjectError(field, "an object");
  return value;
}

/** Checks that a value is a text of at least one character. */
export function requireText(value: unknown, field: string): string {
  if (typeof value !== "string" || value === "") throw new MalformedObjectError(field, "a text");
  return value;
}

type Check = (value: unknown, field: string) => void;

/** Checks that a value is a text, perhaps empty. */
export function isText(value: unknown, field: string): void {
  if (typeof value !== "string") throw new MalformedObjectError(field, "a text");
}

/** Checks that a value is a number. */
export function isNumber(value: unknown, field: string): void {
  if (typeof value !== "number") throw new MalformedObjectError(field, "a number");
}

/** Checks that a value is true or false. */
export function isBoolean(value: unknown, field: string): void {
  if (typeof value !== "boolean") throw new MalformedObjectError(field, "true or false");
}

/** Makes a check of an object's fields. Fields that are absent or null pass, unknown ones too. */
export function fields(checks: Readonly<Record<string, Check>>): Check {
  return (value, field) => {
    const object = requireObject(value, field);
    for (const [name, check] of Object.entries(checks)) {
      const path = field === "" ? name : `${field}.${name}`;
      if (object[name] !== undefined && object[name] !== null) check(object[name], path);
    }
  };
}

/** Makes a check of each element of an array. */
export function each(check: Check): Check {
  return (value, field) => {
    if (!Array.isArray(value)) throw new MalformedObjectError(field, "a list");
    for (const [index, element] of value.entries()) check(element, `${field}[${index}]`);
  };
}

/** Checks that a value is an object whose values are all texts. */
export function isTextMap(value: unknown, field: string): void {
  for (const [key, text] of Object.entries(requireObject(value, field))) {
    isText(text, `${field}["${key}"]`);
  }
}

/** Makes a check that has the named fields present and filled, before `check` sees them all. */
export function having(names: readonly string[], check: Check): Check {
  return (value, field) => {
    const object = requireObject(value, field);
    for (const name of names) requireText(object[name], field === "" ? name : `${field}.${name}`);
    check(value, field);
  };
}

const checkObject = fields({
  apiVersion: isText,
  kind: isText,
  metadata: having(
    ["name"],
    fields({
      namespace: isText,
      uid: isText,
      resourceVersion: isText,
      generation: isNumber,
      labels: isTextMap,
      annotations: isTextMap,
      creationTimestamp: isText,
      deletionTimestamp: isText,
      ownerReferences: each(having(["apiVersion", "kind", "name", "uid"], fields({}))),
      finalizers: each(isText),
    }),
  ),
});

/**
 * Checks what every object of the API has, and returns the object itself.
 *
 * @throws {MalformedObjectError} naming the first field that is not as it must be.
 */
export function parseObject(value: unknown): KubeObject {
  assertObject(value);
  return value;
}

function assertObject(value: unknown): asserts value is KubeObject {
  requireObject(requireObject(value, "object")["metadata"], "metadata");
  checkObject(value, "");
}
