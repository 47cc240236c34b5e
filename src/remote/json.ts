export type JsonObject = Readonly<Record<string, unknown>>;

/** Parses JSON from outside; `undefined` if it is none. A syntax error would quote the text. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Whether a JSON value is an object, and not an array or null. */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The text that a JSON value is; empty if it is none. */
export function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}
