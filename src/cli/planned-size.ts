import { filterIndex } from "#mirror/platforms.ts";
import type { ContentOptions, ContentSource, ManifestContent } from "#oci/content.ts";
import { isForeign, isManifestType, parseContent } from "#oci/manifest.ts";
import { digestPattern } from "#oci/reference.ts";

/** Indexes of indexes are rare; deeper ones are somebody's joke. */
const maxLevels = 4;

/** Sizes in bytes, by digest. */
export type Sizes = ReadonlyMap<string, number>;

/** Adds up sizes. */
export function totalOf(sizes: Sizes): number {
  return sizes.values().reduce((sum, sizeBytes) => sum + sizeBytes, 0);
}

/**
 * Finds out what a tag or digest is made of: manifests, configurations and layers. What refers to it is not
 * counted, and what the destination has already is.
 *
 * @returns `undefined` if the source does not tell, or has something else than an image.
 * @throws the signal's reason, if aborted.
 */
export async function plannedSizes(
  source: ContentSource,
  tagOrDigest: string,
  { platforms, signal }: ContentOptions & { readonly platforms: readonly string[] },
): Promise<Sizes | undefined> {
  try {
    const content = await source.manifest(tagOrDigest, { signal });
    if (!content) return undefined;
    const isWhole = platforms.length === 0 || digestPattern.test(tagOrDigest);
    const isIndex = parseContent(content).kind === "index";
    const wanted = isWhole || !isIndex ? content : filterIndex(content, platforms);
    const sizes = new Map<string, number>();
    await addSizes(source, wanted, sizes, { level: 1, signal });
    return sizes;
  } catch {
    signal.throwIfAborted();
    return undefined; // A size is a service: the copy itself tells what is wrong.
  }
}

async function addSizes(
  source: ContentSource,
  content: ManifestContent,
  sizes: Map<string, number>,
  { level, signal }: ContentOptions & { readonly level: number },
): Promise<void> {
  sizes.set(content.digest, content.bytes.length);
  const parsed = parseContent(content);
  if (parsed.kind === "image") {
    for (const blob of [...(parsed.config ? [parsed.config] : []), ...parsed.layers]) {
      if (!isForeign(blob)) sizes.set(blob.digest, blob.sizeBytes);
    }
    return;
  }
  for (const child of parsed.children) {
    if (!isManifestType(child.mediaType) || sizes.has(child.digest) || level === maxLevels)
      continue;
    const below = await source.manifest(child.digest, { signal });
    if (below) await addSizes(source, below, sizes, { level: level + 1, signal });
  }
}
