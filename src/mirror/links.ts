import type { Descriptor, ManifestContent } from "#oci/content.ts";
import { isForeign, isManifestType, parseContent } from "#oci/manifest.ts";

/**
 * What a manifest names, each once. While blobs are on their way this is all that is kept of what was parsed:
 * the rest may be megabytes.
 */
export interface Links {
  readonly blobs: readonly Descriptor[];
  /** Digests of manifests. */
  readonly manifests: readonly string[];
  /** The digest of what it refers to. */
  readonly subject?: string;
}

/**
 * Lists what a manifest names and a registry has, which leaves out foreign layers. What an image names is
 * blobs, whatever type they are said to have.
 *
 * @throws {ManifestError} as `parseContent` does.
 */
export function linksOf(content: ManifestContent): Links {
  const parsed = parseContent(content);
  const subject = parsed.subject && { subject: parsed.subject.digest };
  if (parsed.kind === "image") {
    const config = parsed.config ? [parsed.config] : [];
    return { blobs: unique([...config, ...present(parsed.layers)]), manifests: [], ...subject };
  }
  const manifests = parsed.children.filter(({ mediaType }) => isManifestType(mediaType));
  const others = parsed.children.filter(({ mediaType }) => !isManifestType(mediaType));
  return {
    blobs: unique(present(others)),
    manifests: unique(manifests).map(({ digest }) => digest),
    ...subject,
  };
}

function present(descriptors: readonly Descriptor[]): Descriptor[] {
  return descriptors.filter((descriptor) => !isForeign(descriptor));
}

function unique(descriptors: readonly Descriptor[]): Descriptor[] {
  return [...new Map(descriptors.map((each) => [each.digest, each])).values()];
}
