import { isJsonObject } from "#json/json.ts";

/** An operation of RFC 6902. `add` sets a field also if it is there. */
export type JsonPatchOperation =
  | { readonly op: "add" | "replace"; readonly path: string; readonly value: unknown }
  | { readonly op: "remove"; readonly path: string };

/** Writes a JSON pointer (RFC 6901) to a field below another. */
export function pointerTo(parent: string, ...steps: readonly (string | number)[]): string {
  const escaped = steps.map((step) => String(step).replaceAll("~", "~0").replaceAll("/", "~1"));
  return [parent, ...escaped].join("/");
}

/**
 * Makes the operations that set annotations, whether there are any yet or not; none if what is there is
 * malformed.
 *
 * @param pointer - of the object's metadata.
 */
export function annotationOperations(
  pointer: string,
  metadata: unknown,
  annotations: Readonly<Record<string, unknown>>,
): JsonPatchOperation[] {
  const entries = Object.entries(annotations);
  if (entries.length === 0) return [];
  if (isAbsent(metadata)) return [{ op: "add", path: pointer, value: { annotations } }];
  if (!isJsonObject(metadata)) return [];
  const path = pointerTo(pointer, "annotations");
  if (isAbsent(metadata["annotations"])) return [{ op: "add", path, value: annotations }];
  if (!isJsonObject(metadata["annotations"])) return [];
  return entries.map(([key, value]) => ({ op: "add", path: pointerTo(path, key), value }));
}

/** Whether a field is not there, in the way of JSON or in that of Go. */
export function isAbsent(value: unknown): value is undefined | null {
  return value === undefined || value === null;
}
