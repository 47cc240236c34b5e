import * as z from "zod/mini";

/** A value as it is handed around: nobody changes what came from a cache. */
export type Frozen<T> = T extends object ? { readonly [Key in keyof T]: Frozen<T[Key]> } : T;

/** A rule that the API server checks, in CEL. `self` is the value it stands at. */
export interface Rule {
  rule: string;
  /** What was expected. The server puts the field and the value before it. */
  message: string;
  /** The field below `self` that is to blame, like `.values`. */
  fieldPath?: string;
  reason?: "FieldValueInvalid" | "FieldValueForbidden" | "FieldValueRequired";
}

/** A column of `kubectl get`. */
export interface Column {
  name: string;
  type: "string" | "integer" | "date";
  jsonPath: string;
  description: string;
  /** 1 shows it only with `-o wide`. */
  priority?: 1;
}

/** What a kind is: with it its CRD, its page of the reference and its `Resource` are made. */
export interface KindDefinition<Schema extends z.ZodMiniType = z.ZodMiniType> {
  kind: string;
  plural: string;
  singular: string;
  shortNames: readonly string[];
  namespaced: boolean;
  description: string;
  /** The object without `apiVersion`, `kind` and `metadata`. */
  schema: Schema;
  hasStatus: boolean;
  columns: readonly Column[];
}

/** Documents a field, for the CRD and the reference page. */
export function field<Schema extends z.ZodMiniType>(schema: Schema, description: string): Schema {
  return schema.check(z.meta({ description }));
}

/** Adds rules that the API server checks and `parse` does not. */
export function withRules<Schema extends z.ZodMiniType>(
  schema: Schema,
  ...rules: readonly Rule[]
): Schema {
  return schema.check(z.meta({ "x-kubernetes-validations": rules }));
}

/** A text of bounded length; the API server estimates the cost of rules from the bound. */
export function boundedText(
  maxLength: number,
  options: { minLength?: number; pattern?: RegExp } = {},
): z.ZodMiniString {
  const { minLength, pattern } = options;
  return z
    .string()
    .check(
      z.maxLength(maxLength),
      ...(minLength === undefined ? [] : [z.minLength(minLength)]),
      ...(pattern === undefined ? [] : [z.regex(pattern)]),
    );
}

/** A list that is replaced as a whole. */
export function atomicList<Item extends z.ZodMiniType>(
  item: Item,
  maxItems: number,
): z.ZodMiniArray<Item> {
  return list(item, maxItems, { "x-kubernetes-list-type": "atomic" });
}

/** A list in which nothing is twice. */
export function setList<Item extends z.ZodMiniType>(
  item: Item,
  maxItems: number,
): z.ZodMiniArray<Item> {
  return list(item, maxItems, { "x-kubernetes-list-type": "set" });
}

/** A list in which each item has a key of its own, so that several writers can share it. */
export function mapList<Item extends z.ZodMiniType>(
  item: Item,
  maxItems: number,
  key: keyof z.infer<Item> & string,
): z.ZodMiniArray<Item> {
  return list(item, maxItems, {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": [key],
  });
}

function list<Item extends z.ZodMiniType>(
  item: Item,
  maxItems: number,
  meta: Record<string, unknown>,
): z.ZodMiniArray<Item> {
  return z.array(item).check(z.maxLength(maxItems), z.meta(meta));
}

/** A moment, in RFC 3339. */
export function timestamp(): z.ZodMiniString {
  return z.string().check(z.meta({ format: "date-time" }));
}

/** A number of things, which is never negative. */
export function count(): z.ZodMiniNumberFormat {
  return z.int32().check(z.minimum(0));
}
