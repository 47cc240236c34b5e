export type JsonObject = Readonly<Record<string, unknown>>;

/** Objects and lists in an answer. A real one has a few thousand; many more take seconds to parse. */
const maxBracketsOfAnswer = 50_000;

/**
 * Parses JSON from outside; `undefined` if it is none, or nests more than any real answer. A syntax error
 * would quote the text.
 *
 * @param maxBrackets - how many objects and lists it may have, where that is known better.
 */
export function parseJson(text: string, maxBrackets = maxBracketsOfAnswer): unknown {
  if (text === "") return undefined; // Throwing costs more than all else.
  if (countBrackets(text) > maxBrackets) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Counts what begins an object or a list: it costs far more time to parse than anything else. */
export function countBrackets(text: string): number {
  return text.match(/[[{]/g)?.length ?? 0;
}

/** Whether a JSON value is an object, and not an array or null. */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The text that a JSON value is; empty if it is none. */
export function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}
