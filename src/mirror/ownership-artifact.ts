import { hash } from "node:crypto";

import type { ContentOptions, ContentSource, ContentTarget, Descriptor } from "#oci/content.ts";
import { formatDescriptor, ManifestError, mediaTypes, parseContent } from "#oci/manifest.ts";
import {
  formatRecord,
  maxRecordBytes,
  ownershipTag,
  parseRecord,
  type OwnershipContent,
} from "./ownership-record.ts";
import { readSmallBlob } from "./small-blob.ts";

/** What a record is, both its manifest and what is in it. */
const ownershipType = "application/vnd.stvz.coral.ownership.v1+json";

/** An artifact's configuration if it has none (image-spec, "Guidance for an Empty Descriptor"). */
const empty = describe(Buffer.from("{}"), "application/vnd.oci.empty.v1+json");

/**
 * A record cannot be kept.
 *
 * - `NOT_A_RECORD`: something else is under its tag, and stays.
 * - `RECORD_TOO_LARGE`: it would have more tags than any record has.
 */
export class OwnershipError extends Error {
  override readonly name = "OwnershipError";
  readonly code: "NOT_A_RECORD" | "RECORD_TOO_LARGE";
  readonly retryable = false;
  readonly reason: string;

  constructor(code: OwnershipError["code"], where: string, reason: string) {
    super(`Cannot record what is copied to ${where}: ${reason}`);
    this.code = code;
    this.reason = reason;
  }
}

/** A record as it is kept. */
export interface StoredRecord {
  /** Of its manifest. */
  readonly digest: string;
  /** Not there if it is damaged: then nothing is on record. */
  readonly content?: OwnershipContent;
}

/**
 * Reads the record that is kept under a tag; `undefined` if there is nothing.
 *
 * @throws {OwnershipError} of code `NOT_A_RECORD`.
 * @throws what the target throws.
 */
export async function readRecord(
  target: ContentSource,
  tag: string,
  options: ContentOptions,
): Promise<StoredRecord | undefined> {
  const manifest = await target.manifest(tag, options);
  if (!manifest) return undefined;
  const parsed = attempt(() => parseContent(manifest));
  if (parsed?.kind !== "image" || parsed.artifactType !== ownershipType) {
    throw new OwnershipError(
      "NOT_A_RECORD",
      target.name,
      `its tag "${tag}" is no record of Coral's`,
    );
  }
  const { digest } = manifest;
  const [layer, ...others] = parsed.layers;
  if (!layer || others.length > 0 || layer.sizeBytes > maxRecordBytes) return { digest };
  const bytes = await readIfThere(target, layer, options);
  const content = bytes && parseRecord(bytes);
  return content ? { digest, content } : { digest };
}

/**
 * Writes a record in place of the one that is there. What that one names stays, until the registry collects it.
 *
 * @throws {OwnershipError} of code `RECORD_TOO_LARGE`.
 * @throws what the target throws.
 */
export async function writeRecord(
  target: ContentTarget,
  content: OwnershipContent,
  options: ContentOptions,
): Promise<StoredRecord> {
  const bytes = formatRecord(content);
  if (!bytes) {
    throw new OwnershipError("RECORD_TOO_LARGE", target.name, "there are too many tags to record");
  }
  const layer = describe(bytes, ownershipType);
  for (const blob of [empty, layer]) {
    if (blob === empty && (await target.hasBlob(empty.descriptor.digest, options))) continue;
    await target.writeBlob(
      blob.descriptor,
      (fromByte) => once(blob.bytes.subarray(fromByte)),
      options,
    );
  }
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.ociImage,
      artifactType: ownershipType,
      config: formatDescriptor(empty.descriptor),
      layers: [formatDescriptor(layer.descriptor)],
    }),
  );
  const { digest, mediaType } = describe(manifest, mediaTypes.ociImage).descriptor;
  await target.putManifest(
    ownershipTag(content.owner),
    { mediaType, digest, bytes: manifest },
    options,
  );
  return { digest, content };
}

async function readIfThere(
  target: ContentSource,
  layer: Descriptor,
  options: ContentOptions,
): Promise<Buffer | undefined> {
  try {
    return await readSmallBlob(target, layer, options);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "NOT_FOUND") return undefined;
    throw error;
  }
}

function attempt<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof ManifestError)) throw error;
    return undefined;
  }
}

function describe(bytes: Buffer, mediaType: string): { descriptor: Descriptor; bytes: Buffer } {
  const digest = `sha256:${hash("sha256", bytes)}`;
  return { descriptor: { mediaType, digest, sizeBytes: bytes.length }, bytes };
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer, void> {
  yield bytes;
}
