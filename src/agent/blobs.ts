import { digestPattern } from "#oci/reference.ts";

/** What a manifest or an index names. */
export interface NamedBlobs {
  /** Configuration and layers of an image; also those whose digest nobody needs to follow. */
  readonly blobs: readonly string[];
  /** Manifests of an index, one for each platform. */
  readonly manifests: readonly string[];
}

/** Reads which blobs a manifest or an index names; `undefined` if it is neither. */
export function parseNamedBlobs(bytes: Uint8Array): NamedBlobs | undefined {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const config = "config" in value ? [value.config] : [];
  const layers = "layers" in value && Array.isArray(value.layers) ? value.layers : [];
  const manifests = "manifests" in value && Array.isArray(value.manifests) ? value.manifests : [];
  return {
    blobs: [...config, ...layers].flatMap(digestOf),
    manifests: manifests.flatMap(digestOf),
  };
}

function digestOf(descriptor: unknown): string[] {
  if (typeof descriptor !== "object" || descriptor === null || !("digest" in descriptor)) return [];
  const { digest } = descriptor;
  return typeof digest === "string" && digestPattern.test(digest) ? [digest] : [];
}

/**
 * Finds out of which blobs an image is made, from what the runtime has of it already.
 *
 * @param read - reads a blob that is there.
 * @returns `undefined` while its manifest is not there. Of an index, the platforms that are there count.
 */
export async function blobsOf(
  digest: string,
  read: (digest: string) => Promise<Uint8Array | undefined>,
): Promise<ReadonlySet<string> | undefined> {
  const named = await readNamed(digest, read);
  if (!named) return undefined;
  if (named.manifests.length === 0) return new Set([digest, ...named.blobs]);
  const found = new Set<string>();
  for (const manifest of named.manifests.slice(0, maxManifests)) {
    const { blobs } = (await readNamed(manifest, read)) ?? {};
    for (const blob of [manifest, ...(blobs ?? [])]) if (blobs) found.add(blob);
  }
  return found.size === 0 ? undefined : found.add(digest);
}

/** An index names one for each platform; more than these are nothing that a runtime fetched. */
const maxManifests = 64;

async function readNamed(
  digest: string,
  read: (digest: string) => Promise<Uint8Array | undefined>,
): Promise<NamedBlobs | undefined> {
  const bytes = await read(digest);
  return bytes && parseNamedBlobs(bytes);
}
