import { isJson, metadataOf, Refused, type Json } from "./fake-api-server-store.ts";

/** Whether an object fits a request's `labelSelector` and `fieldSelector`. */
export type Selector = (object: Json) => boolean;

/** Reads both selectors; the fake knows `=`, `==`, `!=` and, for labels, `key` and `!key`. */
export function selectorOf(query: URLSearchParams): Selector {
  const labels = terms(query.get("labelSelector"));
  const fields = terms(query.get("fieldSelector"));
  return (object) =>
    labels.every(({ path, fits }) => fits(labelOf(object, path))) &&
    fields.every(({ path, fits }) => fits(fieldOf(object, path)));
}

interface Term {
  readonly path: string;
  readonly fits: (value: string | undefined) => boolean;
}

function terms(text: string | null): Term[] {
  return (text ?? "").split(",").filter(Boolean).map(parseTerm);
}

function parseTerm(text: string): Term {
  const [, path, operator, wanted] = /^([^=!]+)(!=|==?)(.*)$/.exec(text) ?? [];
  if (path !== undefined) {
    const isNegated = operator === "!=";
    return { path, fits: (value) => (value === wanted) !== isNegated };
  }
  if (/^![^=!]+$/.test(text)) return { path: text.slice(1), fits: (value) => value === undefined };
  if (/^[^=!]+$/.test(text)) return { path: text, fits: (value) => value !== undefined };
  throw new Refused(400, "BadRequest", `unable to parse requirement: ${text}`);
}

function labelOf(object: Json, key: string): string | undefined {
  const { labels } = metadataOf(object);
  return isJson(labels) && typeof labels[key] === "string" ? labels[key] : undefined;
}

function fieldOf(object: Json, path: string): string | undefined {
  const value = path
    .split(".")
    .reduce<unknown>((at, step) => (isJson(at) ? at[step] : undefined), object);
  return typeof value === "string" ? value : "";
}
