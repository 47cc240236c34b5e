import type { Descriptor, ManifestContent } from "#oci/content.ts";
import { isJsonObject, parseJson, textOf, type JsonObject } from "#json/json.ts";
import { mediaTypeOf, parseDescriptor, platformOf } from "./manifest.ts";

const ociIndex = "application/vnd.oci.image.index.v1+json";

/** Parses an index of referrers; `undefined` if it is none. What has no digest is left out. */
export function parseReferrers(
  body: Buffer,
  contentType: string | undefined,
): Descriptor[] | undefined {
  const index = parseIndexObject(body);
  if (!index || (contentType !== undefined && mediaTypeOf(contentType) !== ociIndex))
    return undefined;
  return index.manifests.flatMap((value) => {
    const descriptor = parseDescriptor(value);
    if (!descriptor || !isJsonObject(value)) return [];
    const artifactType = textOf(value["artifactType"]);
    const platform = platformOf(value["platform"]);
    return {
      ...descriptor,
      ...(artifactType !== "" && { artifactType }),
      ...(platform !== undefined && { platform }),
    };
  });
}

/** What a manifest says that it refers to. */
export function subjectOf({ bytes }: ManifestContent): string | undefined {
  const manifest = parseJson(bytes.toString());
  return isJsonObject(manifest) ? parseDescriptor(manifest["subject"])?.digest : undefined;
}

/**
 * Adds a manifest to the index that is kept under a fallback tag.
 *
 * @param current - the index as it is; `undefined` if there is none yet.
 * @returns the new index, or why there is none: the manifest is in it, or something else is kept there.
 */
export function addReferrer(
  current: ManifestContent | undefined,
  manifest: ManifestContent,
): Buffer | "is-in" | "no-index" {
  const index = current ? parseIndexObject(current.bytes) : { manifests: [] };
  if (!index) return "no-index";
  const { manifests } = index;
  const isIn = manifests.some((value) => parseDescriptor(value)?.digest === manifest.digest);
  if (isIn) return "is-in";
  const added = [...manifests, describe(manifest)];
  return Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: ociIndex, ...index, manifests: added }),
  );
}

function describe({ mediaType, digest, bytes }: ManifestContent): JsonObject {
  const value = parseJson(bytes.toString());
  const { artifactType, config, annotations } = isJsonObject(value) ? value : {};
  const configType = isJsonObject(config) ? textOf(config["mediaType"]) : "";
  const type = textOf(artifactType) || configType;
  return {
    mediaType,
    digest,
    size: bytes.length,
    ...(type !== "" && { artifactType: type }),
    ...(isJsonObject(annotations) && { annotations }),
  };
}

function parseIndexObject(
  body: Buffer,
): (JsonObject & { readonly manifests: readonly unknown[] }) | undefined {
  const value = parseJson(body.toString());
  if (!isJsonObject(value)) return undefined;
  const manifests = value["manifests"] ?? [];
  if (!Array.isArray(manifests) || value["layers"] !== undefined) return undefined;
  return { ...value, manifests };
}
