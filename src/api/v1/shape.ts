import { MalformedObjectError, requireObject } from "#kube/shape.ts";

type Scalar = "string" | "integer" | "integer or string" | "boolean";

/**
 * What a value must be, as far as the types go. Generated from the schemas, whose library would
 * cost an agent 6 MB of memory; bounds and rules are the API server's to check.
 */
export type Shape =
  | Scalar
  | { readonly oneOf: readonly string[] }
  | { readonly listOf: Shape }
  | { readonly mapOf: Shape }
  | { readonly fields: Readonly<Record<string, Shape>>; readonly required: readonly string[] };

/** What the API server and `Resource` need to know of a kind. */
export interface KindShape {
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
  /** Of the object without `apiVersion`, `kind` and `metadata`. */
  readonly shape: Shape;
}

/**
 * Checks a value and everything in it. Fields that the shape does not know pass.
 *
 * @param path - where the value stands, for the error: `spec.images[0]`, or "" for the whole.
 * @throws {MalformedObjectError} naming the first field that is not as it must be.
 */
export function checkShape(shape: Shape, value: unknown, path: string): void {
  if (typeof shape === "string") {
    if (!isScalar(shape, value)) throw new MalformedObjectError(path, `of type ${shape}`);
  } else if ("oneOf" in shape) {
    if (typeof value === "string" && shape.oneOf.includes(value)) return;
    throw new MalformedObjectError(path, `one of ${shape.oneOf.join(", ")}`);
  } else if ("listOf" in shape) {
    if (!Array.isArray(value)) throw new MalformedObjectError(path, "a list");
    for (const [index, item] of value.entries()) {
      checkShape(shape.listOf, item, `${path}[${index}]`);
    }
  } else if ("mapOf" in shape) {
    for (const [key, item] of Object.entries(requireObject(value, path))) {
      checkShape(shape.mapOf, item, `${path}.${key}`);
    }
  } else {
    checkFields(shape, value, path);
  }
}

function checkFields(
  shape: Extract<Shape, { fields: unknown }>,
  value: unknown,
  path: string,
): void {
  const present = requireObject(value, path);
  for (const [name, field] of Object.entries(shape.fields)) {
    const place = path === "" ? name : `${path}.${name}`;
    if (present[name] !== undefined) checkShape(field, present[name], place);
    else if (shape.required.includes(name)) throw new MalformedObjectError(place, "there");
  }
}

function isScalar(shape: Scalar, value: unknown): boolean {
  if (shape === "boolean") return typeof value === "boolean";
  if (typeof value === "string") return shape !== "integer";
  return Number.isInteger(value) && shape !== "string";
}
