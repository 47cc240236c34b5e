import { isJsonObject, parseJson, textOf, type JsonObject } from "#json/json.ts";
import type { Descriptor, ManifestContent } from "./content.ts";
import { digestPattern } from "./reference.ts";

/** The images, artifacts and indexes of OCI and Docker. */
export const mediaTypes = {
  ociImage: "application/vnd.oci.image.manifest.v1+json",
  ociIndex: "application/vnd.oci.image.index.v1+json",
  /** Of OCI 1.1's first drafts; some tools wrote it. */
  ociArtifact: "application/vnd.oci.artifact.manifest.v1+json",
  dockerImage: "application/vnd.docker.distribution.manifest.v2+json",
  dockerIndex: "application/vnd.docker.distribution.manifest.list.v2+json",
} as const;

const indexTypes: ReadonlySet<string> = new Set([mediaTypes.ociIndex, mediaTypes.dockerIndex]);
const imageTypes: ReadonlySet<string> = new Set([
  mediaTypes.ociImage,
  mediaTypes.ociArtifact,
  mediaTypes.dockerImage,
]);
/** Docker's first: named here so that one inside an index is refused, and not taken for a blob. */
const schema1Types: ReadonlySet<string> = new Set([
  "application/vnd.docker.distribution.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v1+prettyjws",
]);

/** The most bytes of a manifest; registries take no larger ones. */
export const maxManifestBytes = 4 * 1_024 * 1_024;

/** More than any image has: containerd and Docker stop at 127. Artifacts have one for each file. */
const maxLayers = 1_024;

/** Enough for the referrers of one image, of which an index tells where a registry does not. */
const maxChildren = 4_096;

/** The most bytes of all manifests that one index names. */
const maxTotalBytes = 64 * 1_024 * 1_024;

/** Names other manifests: the platforms of an image, or what else is kept together. */
export interface IndexContent {
  readonly kind: "index";
  /** Manifests, and whatever else it names. */
  readonly children: readonly Descriptor[];
  readonly subject?: Descriptor;
  readonly artifactType?: string;
  readonly annotations: Annotations;
}

/** Names blobs: of an image, or of an artifact. */
export interface ImageContent {
  readonly kind: "image";
  /** Not there in the artifacts of OCI's drafts. */
  readonly config?: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly subject?: Descriptor;
  /** What an artifact is for; if it does not say so itself, the type of its configuration. */
  readonly artifactType?: string;
  readonly annotations: Annotations;
}

export type Annotations = Readonly<Record<string, string>>;

/**
 * A manifest is none that Coral copies.
 *
 * - `UNSUPPORTED_MANIFEST`: of a kind that cannot be kept byte for byte.
 * - `INVALID_MANIFEST`: not what the specifications say, or past a limit.
 */
export class ManifestError extends Error {
  override readonly name = "ManifestError";
  readonly code: "UNSUPPORTED_MANIFEST" | "INVALID_MANIFEST";
  readonly retryable = false;
  readonly digest: string;
  /** What is wrong with it, to stand after "it". */
  readonly reason: string;

  constructor(code: ManifestError["code"], digest: string, reason: string) {
    super(`Manifest "${digest}" is refused: it ${reason}`);
    this.code = code;
    this.digest = digest;
    this.reason = reason;
  }
}

/** Whether content of this type is a manifest or an index, of any kind. */
export function isManifestType(mediaType: string): boolean {
  return imageTypes.has(mediaType) || isIndexType(mediaType) || schema1Types.has(mediaType);
}

/** Whether content of this type names manifests. */
export function isIndexType(mediaType: string): boolean {
  return indexTypes.has(mediaType);
}

/** Layers that nobody but their maker may hand out, as those of Windows were (image-spec, "layer.md"). */
const foreignPattern =
  /^application\/vnd\.(?:docker\.image\.rootfs\.foreign|oci\.image\.layer\.nondistributable)\./;

/** Whether a layer is to be fetched from where its maker says, and is in no other registry. */
export function isForeign({ mediaType }: Descriptor): boolean {
  return foreignPattern.test(mediaType);
}

/**
 * Parses a manifest or index for what it names. It changes nothing: whoever copies it copies `bytes`.
 *
 * @throws {ManifestError} if it is none, of Docker's schema 1, or past a limit.
 */
export function parseContent({
  digest,
  mediaType,
  bytes,
}: ManifestContent): IndexContent | ImageContent {
  const value = bytes.length <= maxManifestBytes ? parseJson(bytes.toString()) : undefined;
  const content = isJsonObject(value)
    ? parseFields(value, textOf(value["mediaType"]) || mediaType)
    : "is no JSON object, or too large";
  if (content === schema1) throw new ManifestError("UNSUPPORTED_MANIFEST", digest, content);
  if (typeof content === "string") throw new ManifestError("INVALID_MANIFEST", digest, content);
  return content;
}

/**
 * Tells the type of a manifest from the manifest, for where nobody states it; `undefined` if it is none.
 */
export function mediaTypeOfContent(bytes: Buffer): string | undefined {
  const value = bytes.length <= maxManifestBytes ? parseJson(bytes.toString()) : undefined;
  if (!isJsonObject(value)) return undefined;
  const stated = textOf(value["mediaType"]);
  if (stated !== "") return isManifestType(stated) ? stated : undefined;
  if (Array.isArray(value["manifests"])) return mediaTypes.ociIndex;
  return Array.isArray(value["layers"]) && isJsonObject(value["config"])
    ? mediaTypes.ociImage
    : undefined;
}

const schema1 =
  "is of Docker's schema 1 (schemaVersion 1), which has been out of use since 2016: push the image anew";

function parseFields(value: JsonObject, mediaType: string): IndexContent | ImageContent | string {
  const { schemaVersion, manifests, layers, blobs, fsLayers } = value;
  if (schemaVersion === 1 || fsLayers !== undefined || schema1Types.has(mediaType)) return schema1;
  // One body, taken for different things by different readers, is how images are forged (CVE-2021-41190).
  const namesBlobs = layers !== undefined || blobs !== undefined || value["config"] !== undefined;
  if (manifests !== undefined && namesBlobs) return "is both an image and an index";
  if (manifests !== undefined) {
    return imageTypes.has(mediaType) ? "is an index that says it is an image" : parseIndex(value);
  }
  if (isIndexType(mediaType)) return "is an image that says it is an index";
  return mediaType === mediaTypes.ociArtifact ? parseArtifact(value) : parseImage(value);
}

function parseIndex(value: JsonObject): IndexContent | string {
  const children = parseList(value["manifests"], maxChildren);
  if (typeof children === "string") return children;
  const manifests = children.filter(({ mediaType }) => isManifestType(mediaType));
  const totalBytes = manifests.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  if (totalBytes > maxTotalBytes) return `names manifests of more than ${maxTotalBytes} bytes`;
  const common = parseCommon(value);
  return typeof common === "string" ? common : { kind: "index", children, ...common };
}

function parseImage(value: JsonObject): ImageContent | string {
  const config = parseDescriptor(value["config"]);
  if (!config) return "has no configuration with type, digest and size";
  const layers = parseList(value["layers"], maxLayers);
  if (typeof layers === "string") return layers;
  const common = parseCommon(value);
  if (typeof common === "string") return common;
  return { kind: "image", config, layers, artifactType: config.mediaType, ...common };
}

function parseArtifact(value: JsonObject): ImageContent | string {
  const layers = parseList(value["blobs"] ?? [], maxLayers);
  if (typeof layers === "string") return layers;
  const common = parseCommon(value);
  return typeof common === "string" ? common : { kind: "image", layers, ...common };
}

function parseCommon(
  value: JsonObject,
): Pick<IndexContent, "subject" | "artifactType" | "annotations"> | string {
  const artifactType = textOf(value["artifactType"]);
  const subject = parseDescriptor(value["subject"]);
  const hasSubject = value["subject"] !== undefined && value["subject"] !== null;
  if (hasSubject && !subject) return "has a subject without type, digest or size";
  return {
    ...(subject && { subject }),
    ...(artifactType !== "" && { artifactType }),
    annotations: parseAnnotations(value["annotations"]),
  };
}

/** Texts by name; what is no text is left out. */
export function parseAnnotations(value: unknown): Annotations {
  const entries = isJsonObject(value) ? Object.entries(value) : [];
  return Object.fromEntries(
    entries.filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}

function parseList(value: unknown, most: number): Descriptor[] | string {
  const list: unknown = value ?? []; // What Go writes for a list without entries is null.
  if (!Array.isArray(list)) return "has something else where its list of content should be";
  if (list.length > most) return `names more than ${most} others`;
  const descriptors: Descriptor[] = [];
  for (const entry of list) {
    const descriptor = parseDescriptor(entry);
    if (!descriptor) return "names content without type, digest or size";
    descriptors.push(descriptor);
  }
  return descriptors;
}

/** Parses a descriptor; `undefined` if it lacks type, digest or size, or has them wrong. */
export function parseDescriptor(value: unknown): Descriptor | undefined {
  if (!isJsonObject(value)) return undefined;
  const { mediaType, digest, size, artifactType, urls } = value;
  if (typeof mediaType !== "string" || typeof digest !== "string") return undefined;
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) return undefined;
  if (!digestPattern.test(digest)) return undefined;
  const platform = platformOf(value["platform"]);
  const texts = Array.isArray(urls) ? urls.map(textOf).filter(Boolean) : [];
  return {
    mediaType,
    digest,
    sizeBytes: size,
    ...(platform !== undefined && { platform }),
    ...(typeof artifactType === "string" && { artifactType }),
    ...(texts.length > 0 && { urls: texts }),
  };
}

/**
 * Names the tag that lists what refers to a manifest where a registry has no API for that
 * (distribution-spec, "Referrers Tag Schema": at most 64 characters of the digest).
 */
export function fallbackTag(digest: string): string {
  const [algorithm = "", hex = ""] = digest.split(":");
  return `${algorithm}-${hex.slice(0, 64)}`;
}

/** Formats a descriptor as manifests have it. */
export function formatDescriptor(
  descriptor: Descriptor,
  annotations: Annotations = {},
): JsonObject {
  const { mediaType, digest, sizeBytes, artifactType } = descriptor;
  return {
    mediaType,
    digest,
    size: sizeBytes,
    ...(artifactType !== undefined && { artifactType }),
    ...(Object.keys(annotations).length > 0 && { annotations }),
  };
}

const platformPart = /^[A-Za-z0-9][A-Za-z0-9._-]{0,19}$/;

function platformOf(value: unknown): string | undefined {
  const { os, architecture, variant } = isJsonObject(value) ? value : {};
  const parts = [os, architecture, ...(textOf(variant) === "" ? [] : [variant])].map(textOf);
  return parts.every((part) => platformPart.test(part)) ? parts.join("/") : undefined;
}
