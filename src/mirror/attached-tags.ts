import { isJsonObject, parseJson } from "#json/json.ts";
import type { ManifestContent } from "#oci/content.ts";
import { fallbackTag, parseAnnotations, parseDescriptor } from "#oci/manifest.ts";

/** The most tags of a repository that are looked at. The largest that are known have some ten thousand. */
export const maxTags = 100_000;

/** How cosign names what belongs to a manifest where there is no referrers API. */
const cosignSuffixes = [".sig", ".att", ".sbom"];

/** Tags of cosign's that belong to a manifest. */
export const cosignTagPattern = /^sha(?:256|512)-[0-9a-f]{64}\.(?:sig|att|sbom)$/;

/** How tags are named that list what refers to a manifest (distribution-spec); others may be, too. */
export const fallbackTagPattern = /^sha(?:256|512)-[0-9a-f]{64}$/;

/** Names the tags under which cosign may keep what belongs to a manifest. */
export function cosignTagsOf(digest: string): string[] {
  return cosignSuffixes.map((suffix) => fallbackTag(digest) + suffix);
}

/**
 * Decides what becomes of a tag of cosign's that both sides have and that differs: each signature is a layer,
 * and none may be lost.
 *
 * @returns `keep` if the target has all that the source has, `replace` if the source has all that the target
 *   has, and `conflict` if each has signatures of its own.
 */
export function compareSignatures(
  source: ManifestContent,
  target: ManifestContent,
): "keep" | "replace" | "conflict" {
  const [wanted, there] = [signaturesIn(source), signaturesIn(target)];
  if (wanted.isSubsetOf(there)) return "keep";
  return there.isSubsetOf(wanted) ? "replace" : "conflict";
}

/** Two keys sign the same payload: signatures differ in the annotations of their layers alone. */
function signaturesIn({ bytes }: ManifestContent): ReadonlySet<string> {
  const value = parseJson(bytes.toString());
  const layers: unknown = isJsonObject(value) ? value["layers"] : undefined;
  const entries: unknown[] = Array.isArray(layers) ? layers : [];
  return new Set(
    entries.map((entry) => {
      const annotations = parseAnnotations(isJsonObject(entry) ? entry["annotations"] : undefined);
      const texts = Object.entries(annotations).map((pair) => JSON.stringify(pair));
      return [parseDescriptor(entry)?.digest, ...texts.sort()].join();
    }),
  );
}
