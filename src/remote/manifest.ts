import type { Descriptor } from "#oci/content.ts";
import { digestPattern } from "#oci/reference.ts";
import { isJsonObject, parseJson, textOf, type JsonObject } from "#json/json.ts";

/** The images and indexes of OCI and Docker. Registries give what `Accept` names, or convert. */
const imageTypes: ReadonlySet<string> = new Set([
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
]);
const indexTypes: ReadonlySet<string> = new Set([
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
]);

/** Schema 1, to be able to say that it is one, and the artifacts of OCI's release candidates. */
const otherTypes = [
  "application/vnd.oci.artifact.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v1+prettyjws",
  "application/vnd.docker.distribution.manifest.v1+json",
] as const;

/** Whether content of this type is signed within itself, so that its digest is not that of its bytes. */
export function isSchema1(mediaType: string): boolean {
  return mediaType.startsWith("application/vnd.docker.distribution.manifest.v1+");
}

/** Value of `Accept` for manifests of every kind that registries have. */
export const acceptAllManifests = [...indexTypes, ...imageTypes, ...otherTypes].join(", ");

/** Whether content of this type is a manifest of any kind. */
export function isAnyManifestType(mediaType: string): boolean {
  return isManifestType(mediaType) || otherTypes.some((other) => other === mediaType);
}

/** Value of `Accept` for manifests that can be run. */
export const acceptManifests = [...indexTypes, ...imageTypes].join(", ");

/** Whether content of this type is an image or an index. */
export function isManifestType(mediaType: string): boolean {
  return imageTypes.has(mediaType) || indexTypes.has(mediaType);
}

/** The configurations that say for which platform an image is; artifacts have others. */
const configTypes: ReadonlySet<string> = new Set([
  "application/vnd.oci.image.config.v1+json",
  "application/vnd.docker.container.image.v1+json",
]);

/** More platforms than any image has; buildx adds an attestation to each. */
const maxChildren = 64;

export interface ImageManifest {
  readonly kind: "image";
  readonly mediaType: string;
  readonly config: Descriptor;
  /** Configuration and layers, as they are stored: compressed. */
  readonly sizeBytes: number;
}

export interface IndexManifest {
  readonly kind: "index";
  readonly mediaType: string;
  /** Its images, without attestations and whatever else is not to be run. */
  readonly children: readonly Descriptor[];
}

/**
 * Parses an image's manifest or an index.
 *
 * @param contentType - counts if the manifest itself does not say what it is.
 * @returns what is wrong with it, to stand after "it", if it is neither.
 */
export function parseManifest(
  body: Buffer,
  contentType: string | undefined,
): ImageManifest | IndexManifest | string {
  const value = parseJson(body.toString());
  if (!isJsonObject(value)) return "sends a manifest that is no JSON object";
  const { manifests, layers } = value;
  // One body, taken for different things by different readers, is how images are forged (CVE-2021-41190).
  if (manifests !== undefined && layers !== undefined) {
    return "sends a manifest that is both an image and an index";
  }
  const stated = textOf(value["mediaType"]) || mediaTypeOf(contentType);
  if (Array.isArray(manifests)) {
    const mediaType = indexTypes.has(stated) ? stated : [...indexTypes][0];
    return parseIndex(manifests, mediaType ?? "");
  }
  if (Array.isArray(layers)) {
    const mediaType = imageTypes.has(stated) ? stated : [...imageTypes][0];
    return parseImage(value, layers, mediaType ?? "");
  }
  return "sends a manifest that is neither an image nor an index";
}

/** The platform for which an image's configuration says it is, like `linux/arm64/v8`. */
export function platformOfConfig(body: Buffer): string | undefined {
  return platformOf(parseJson(body.toString()));
}

/**
 * What a manifest is: as it says itself, else as its registry says, else as it looks. Its digest covers
 * only the first.
 */
export function typeOfManifest(value: JsonObject, contentType: string | undefined): string {
  const stated = mediaTypeOf(contentType);
  const own = textOf(value["mediaType"]);
  if (isAnyManifestType(own)) return own;
  if (isAnyManifestType(stated)) return stated;
  if (value["schemaVersion"] === 1) return otherTypes[2];
  const types = Array.isArray(value["manifests"]) ? indexTypes : imageTypes;
  return [...types][0] ?? "";
}

/** Whether a configuration says for which platform its image is. */
export function hasPlatform({ mediaType }: Descriptor): boolean {
  return configTypes.has(mediaType);
}

/** The type in a `Content-Type` header, without its parameters. */
export function mediaTypeOf(contentType: string | undefined): string {
  return contentType?.split(";")[0]?.trim().toLowerCase() ?? "";
}

function parseIndex(manifests: readonly unknown[], mediaType: string): IndexManifest | string {
  if (manifests.length > maxChildren) return `sends an index of more than ${maxChildren} manifests`;
  const children: Descriptor[] = [];
  for (const value of manifests) {
    const child = parseDescriptor(value);
    if (!child) return "sends an index with a manifest without type, digest or size";
    if (!isJsonObject(value) || !imageTypes.has(child.mediaType) || isAttestation(value)) continue;
    const platform = platformOf(value["platform"]);
    if (value["platform"] !== undefined && platform === undefined) continue;
    children.push({ ...child, ...(platform !== undefined && { platform }) });
  }
  return { kind: "index", mediaType, children };
}

function parseImage(
  value: JsonObject,
  layers: readonly unknown[],
  mediaType: string,
): ImageManifest | string {
  const config = parseDescriptor(value["config"]);
  let sizeBytes = config?.sizeBytes ?? 0;
  for (const layer of layers) sizeBytes += parseDescriptor(layer)?.sizeBytes ?? NaN;
  if (!config || !Number.isSafeInteger(sizeBytes)) {
    return "sends an image with a layer without type, digest or size";
  }
  return { kind: "image", mediaType, config, sizeBytes };
}

/** Parses the three things that each descriptor has. */
export function parseDescriptor(value: unknown): Descriptor | undefined {
  if (!isJsonObject(value)) return undefined;
  const { mediaType, digest, size } = value;
  if (typeof mediaType !== "string" || typeof digest !== "string") return undefined;
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) return undefined;
  return digestPattern.test(digest) ? { mediaType, digest, sizeBytes: size } : undefined;
}

/** What buildx keeps beside images: it is in an index only so that it is found. */
function isAttestation({ annotations, platform }: JsonObject): boolean {
  const type = isJsonObject(annotations) ? annotations["vnd.docker.reference.type"] : undefined;
  return (
    type === "attestation-manifest" || (isJsonObject(platform) && platform["os"] === "unknown")
  );
}

const namePattern = /^[a-z0-9][a-z0-9._-]{0,19}$/;

/** The platform that an object with `os` and `architecture` names. */
export function platformOf(value: unknown): string | undefined {
  const { os, architecture, variant } = isJsonObject(value) ? value : {};
  const parts = [os, architecture, ...(textOf(variant) === "" ? [] : [variant])].map(textOf);
  return parts.every((part) => namePattern.test(part)) ? parts.join("/") : undefined;
}
