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
  const named = {
    blobs: [...config, ...layers].flatMap(digestOf),
    manifests: manifests.flatMap(digestOf),
  };
  return named.blobs.length + named.manifests.length > 0 ? named : undefined;
}

function digestOf(descriptor: unknown): string[] {
  if (typeof descriptor !== "object" || descriptor === null || !("digest" in descriptor)) return [];
  const { digest } = descriptor;
  return typeof digest === "string" && digestPattern.test(digest) ? [digest] : [];
}

/** An index names one for each platform; more than these are nothing that a runtime fetched. */
const maxManifests = 64;

/** Finds out of which blobs an image is made, from what the runtime has of it already. */
export class BlobSearch {
  /** What the image's tag names: a manifest or an index. */
  readonly digest: string;
  /** What is there and names no blobs, so that nobody need read it again. */
  readonly #others = new Set<string>();

  constructor(digest: string) {
    this.digest = digest;
  }

  /** Whether nothing will ever be found: what is there under the digest is no manifest. */
  get isVain(): boolean {
    return this.#others.has(this.digest);
  }

  /**
   * Looks at what is there by now.
   *
   * @param read - reads a blob that is there.
   * @returns `undefined` while its manifest is not there. Of an index, the platforms that are there count.
   */
  async look(
    read: (digest: string) => Promise<Uint8Array | undefined>,
  ): Promise<ReadonlySet<string> | undefined> {
    const named = await this.#named(this.digest, read);
    if (!named) return undefined;
    if (named.manifests.length === 0) return new Set([this.digest, ...named.blobs]);
    const found = new Set<string>();
    for (const manifest of named.manifests.slice(0, maxManifests)) {
      const { blobs } = (await this.#named(manifest, read)) ?? {};
      for (const blob of [manifest, ...(blobs ?? [])]) if (blobs) found.add(blob);
    }
    return found.size === 0 ? undefined : found.add(this.digest);
  }

  async #named(
    digest: string,
    read: (digest: string) => Promise<Uint8Array | undefined>,
  ): Promise<NamedBlobs | undefined> {
    if (this.#others.has(digest)) return undefined;
    const bytes = await read(digest);
    const named = bytes && parseNamedBlobs(bytes);
    if (bytes && !named) this.#others.add(digest);
    return named;
  }
}
