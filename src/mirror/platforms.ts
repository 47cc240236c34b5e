import { hash } from "node:crypto";

import { isJsonObject, parseJson, textOf, type JsonObject } from "#json/json.ts";
import type { ManifestContent } from "#oci/content.ts";
import { parseAnnotations, parseDescriptor } from "#oci/manifest.ts";
import { CopyError } from "./copy-result.ts";

/** Of an index that Coral made: which one it was made of, and for which platforms. */
const sourceDigest = "image.stvz.io/source-digest";
const sourcePlatforms = "image.stvz.io/platforms";

/**
 * Makes an index of what is for some platforms, with their attestations. An index that has nothing else is
 * given back as it is.
 *
 * What is left in it is written as it was. The new index says of which it was made, so that a later run
 * can tell that it is current without asking the source for more than a digest (`isFilteredFrom`).
 *
 * @param platforms - like `linux/amd64`, `linux/arm64/v8`; without a variant, every variant of it.
 * @throws {CopyError} if none of them is in the index.
 */
export function filterIndex(
  content: ManifestContent,
  platforms: readonly string[],
): ManifestContent {
  const value = parseJson(content.bytes.toString());
  const written =
    isJsonObject(value) && Array.isArray(value["manifests"]) ? value["manifests"] : [];
  const entries: unknown[] = written;
  const images = entries.filter((entry) => {
    const platform = parseDescriptor(entry)?.platform;
    return platform !== undefined && matchesPlatform(platform, platforms) && !isAttestation(entry);
  });
  if (images.length === 0) throw noPlatform(platforms);
  const digests = new Set(images.map((image) => parseDescriptor(image)?.digest));
  const kept = entries.filter(
    (entry) => images.includes(entry) || digests.has(attestedDigest(entry)),
  );
  if (kept.length === entries.length) return content;

  const fields = isJsonObject(value) ? value : {};
  const annotations = {
    ...parseAnnotations(fields["annotations"]),
    [sourceDigest]: content.digest,
    [sourcePlatforms]: formatPlatforms(platforms),
  };
  const bytes = Buffer.from(JSON.stringify({ ...fields, manifests: kept, annotations }));
  return { mediaType: content.mediaType, digest: `sha256:${hash("sha256", bytes)}`, bytes };
}

/** Whether an index was made of the one with this digest, for these platforms. */
export function isFilteredFrom(
  { bytes }: ManifestContent,
  digest: string,
  platforms: readonly string[],
): boolean {
  const value = parseJson(bytes.toString());
  const annotations = parseAnnotations(isJsonObject(value) ? value["annotations"] : undefined);
  return (
    annotations[sourceDigest] === digest &&
    annotations[sourcePlatforms] === formatPlatforms(platforms)
  );
}

/** Checks that an image by itself is for one of the platforms. @throws {CopyError} if it is not. */
export function requirePlatform(platform: string | undefined, platforms: readonly string[]): void {
  if (platform !== undefined && !matchesPlatform(platform, platforms)) {
    throw noPlatform(platforms, platform);
  }
}

function noPlatform(platforms: readonly string[], found?: string): CopyError {
  const reason =
    found === undefined
      ? `its index has none of the platforms ${platforms.join(", ")}`
      : `it is for ${found}, which is none of the platforms ${platforms.join(", ")}`;
  return new CopyError("NO_PLATFORM", reason);
}

function formatPlatforms(platforms: readonly string[]): string {
  return [...new Set(platforms)].sort().join(",");
}

function matchesPlatform(platform: string, wanted: readonly string[]): boolean {
  return wanted.some((text) => {
    const [os, architecture, variant] = text.split("/");
    const [hasOs, hasArchitecture, hasVariant] = platform.split("/");
    if (os !== hasOs || architecture !== hasArchitecture) return false;
    return variant === undefined || variant === (hasVariant ?? impliedVariant(architecture));
  });
}

/** What containerd takes for the variant where none is given (containerd/platforms, "normalizeArch"). */
function impliedVariant(architecture: string | undefined): string | undefined {
  if (architecture === "arm64") return "v8";
  return architecture === "arm" ? "v7" : undefined;
}

/** BuildKit's attestations stand in the index beside the image that they are about. */
function attestedDigest(entry: unknown): string | undefined {
  return isAttestation(entry)
    ? textOf(annotationsOf(entry)["vnd.docker.reference.digest"])
    : undefined;
}

function isAttestation(entry: unknown): boolean {
  return annotationsOf(entry)["vnd.docker.reference.type"] === "attestation-manifest";
}

function annotationsOf(entry: unknown): JsonObject {
  const annotations = isJsonObject(entry) ? entry["annotations"] : undefined;
  return isJsonObject(annotations) ? annotations : {};
}
