import { tagPattern } from "#oci/reference.ts";
import { isJsonObject, parseJson } from "#json/json.ts";

/**
 * Parses one page of a list of tags (distribution-spec, "Listing Tags"). Texts that are no tags are
 * left out. `undefined` if it is no list; a repository without tags has `null` at some registries.
 */
export function parseTags(body: Buffer): string[] | undefined {
  const page = parseJson(body.toString());
  const tags = isJsonObject(page) ? (page["tags"] ?? []) : undefined;
  if (!Array.isArray(tags)) return undefined;
  return tags.filter((tag): tag is string => typeof tag === "string" && tagPattern.test(tag));
}

/** One link of a `Link` header (RFC 8288, 3): its target, and its parameters. */
const link = /<([^<>]*)>((?:\s*;\s*[\w-]+\s*=\s*(?:"[^"]*"|[^\s;,"]*))*)/g;

const relation = /;\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]*))/i;

/** More of a header than any registry sends. */
const maxHeaderLength = 8_192;

/** The target of the link with `rel="next"`, as it is written: relative or absolute. */
export function nextLink(header: string | undefined): string | undefined {
  const text = (header ?? "").slice(0, maxHeaderLength);
  for (const [, target, parameters = ""] of text.matchAll(link)) {
    const [, quoted, plain] = relation.exec(parameters) ?? [];
    const relations = (quoted ?? plain ?? "").toLowerCase().split(/\s+/);
    if (relations.includes("next")) return target;
  }
  return undefined;
}
