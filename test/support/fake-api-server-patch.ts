import { isDeepStrictEqual } from "node:util";

import { isJson, Refused, type Json } from "./fake-api-server-store.ts";

/** Applies an RFC 7396 merge patch. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isJson(patch)) return patch;
  const result: Json = isJson(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}

/** Applies an RFC 6902 patch, but for `copy` and `move`. */
export function jsonPatch(target: unknown, operations: unknown): unknown {
  if (!Array.isArray(operations)) throw new Refused(400, "BadRequest", "the patch is no list");
  const root: Json = { "": structuredClone(target) };
  for (const operation of operations as readonly unknown[]) applyOperation(root, operation);
  return root[""];
}

function applyOperation(root: Json, operation: unknown): void {
  const { op, path, value } = isJson(operation) ? operation : {};
  if (typeof path !== "string") throw new Refused(400, "BadRequest", "an operation has no path");
  const steps = path.split("/").map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
  const last = steps.pop() ?? "";
  const parent = steps.reduce<unknown>(stepInto, root);
  const exists = stepInto(parent, last) !== undefined;
  if (op === "test") {
    if (isDeepStrictEqual(stepInto(parent, last), value)) return;
    throw new Refused(422, "Invalid", `testing value ${path} failed`);
  }
  if ((op === "remove" || op === "replace") && !exists) {
    throw new Refused(422, "Invalid", `${op} operation does not apply: ${path} is missing`);
  }
  if (Array.isArray(parent)) {
    const index = last === "-" ? parent.length : Number(last);
    if (op === "add") parent.splice(index, 0, value);
    else if (op === "replace") parent[index] = value;
    else parent.splice(index, 1);
  } else if (isJson(parent)) {
    if (op === "remove") delete parent[last];
    else parent[last] = value;
  } else {
    throw new Refused(422, "Invalid", `${String(op)} operation does not apply: ${path}`);
  }
}

function stepInto(value: unknown, step: string): unknown {
  if (Array.isArray(value)) return (value as readonly unknown[])[Number(step)];
  return isJson(value) ? value[step] : undefined;
}
