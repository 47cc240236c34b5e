import { hash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

import type { LayoutRepository } from "#layout/layout-repository.ts";
import type { Descriptor, ManifestContent } from "#oci/content.ts";
import { formatDescriptor, mediaTypes } from "#oci/manifest.ts";

/** A folder that goes with the test. */
export async function aFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "coral-layout-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export function digestOf(content: string | Buffer): string {
  return `sha256:${hash("sha256", content)}`;
}

export function aBlob(content: string): Descriptor {
  const sizeBytes = Buffer.byteLength(content);
  return { mediaType: "application/octet-stream", digest: digestOf(content), sizeBytes };
}

/** An image without layers, whose configuration is `{}`. */
export function aManifest(name: string, subject?: ManifestContent): ManifestContent {
  const value = {
    schemaVersion: 2,
    mediaType: mediaTypes.ociImage,
    artifactType: "test/thing",
    config: formatDescriptor(aBlob("{}")),
    layers: [],
    annotations: { name },
    ...(subject && { subject: formatDescriptor(describing(subject)) }),
  };
  return contentOf(mediaTypes.ociImage, value);
}

export function anIndex(children: readonly ManifestContent[]): ManifestContent {
  const manifests = children.map((child) => formatDescriptor(describing(child)));
  return contentOf(mediaTypes.ociIndex, {
    schemaVersion: 2,
    mediaType: mediaTypes.ociIndex,
    manifests,
  });
}

function contentOf(mediaType: string, value: object): ManifestContent {
  const bytes = Buffer.from(JSON.stringify(value));
  return { mediaType, digest: digestOf(bytes), bytes };
}

export function describing({ mediaType, digest, bytes }: ManifestContent): Descriptor {
  return { mediaType, digest, sizeBytes: bytes.length };
}

/** Stores a blob. */
export async function write(
  repository: LayoutRepository,
  content: string | Buffer,
  signal: AbortSignal,
): Promise<Descriptor> {
  const descriptor = aBlob(content.toString());
  const bytes = Buffer.from(content);
  await repository.writeBlob(descriptor, (fromByte) => chunks(bytes.subarray(fromByte)), {
    signal,
  });
  return descriptor;
}

/** Reads a blob whole. */
export async function read(
  repository: LayoutRepository,
  blob: Descriptor,
  signal: AbortSignal,
): Promise<string> {
  let text = "";
  for await (const chunk of repository.blob(blob, { signal })) text += chunk.toString();
  return text;
}

export async function* chunks(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

/** Where a layout keeps a blob. */
export function fileOf(folder: string, { digest }: { digest: string }): string {
  return join(folder, "blobs", ...digest.split(":"));
}
