import { hash } from "node:crypto";

import {
  WrongContentError,
  type ContentOptions,
  type ContentTarget,
  type Descriptor,
  type ManifestContent,
  type Named,
} from "#oci/content.ts";
import {
  fallbackTag,
  isForeign,
  isIndexType,
  isManifestType,
  ManifestError,
  maxManifestBytes,
  mediaTypeOfContent,
  parseContent,
} from "#oci/manifest.ts";
import { digestPattern, parseDigest, parseTag } from "#oci/reference.ts";
import type { BlobFiles } from "./blob-files.ts";
import type { IndexFile } from "./index-file.ts";
import type { LayoutDirectory } from "./layout-directory.ts";
import { translateError } from "./layout-error.ts";
import {
  findTag,
  isOfOthers,
  tagOf,
  withoutDigest,
  withoutTag,
  withTag,
  withUnnamed,
} from "./layout-index.ts";

/** What the repositories of a layout have in common. */
export interface LayoutParts {
  /** As it was given, for people. */
  readonly path: string;
  readonly directory: LayoutDirectory;
  readonly blobs: BlobFiles;
  readonly index: IndexFile;
  readonly known: Map<string, Known>;
}

/** What a manifest says of itself; kept, since content never changes. */
export interface Known {
  readonly subject?: string;
  readonly artifactType?: string;
}

/**
 * One repository of an OCI layout; `Layout.repository` gives it.
 *
 * The repositories of a layout have blobs and manifests in common, and their tags apart. Manifests that
 * are stored by digest alone are content without a name, unless they have a subject: then `index.json`
 * lists them, so that they are found by it.
 *
 * Every method throws {@link LayoutError} if the directory does not do what was asked.
 */
export class LayoutRepository implements ContentTarget {
  readonly name: string;
  readonly #parts: LayoutParts;
  readonly #repository: string | undefined;
  readonly #blobs: BlobFiles;
  readonly #index: IndexFile;

  /** @param repository - in full; if not given, the layout is a single repository. */
  constructor(parts: LayoutParts, repository: string | undefined) {
    const { path, blobs, index } = parts;
    this.name = repository === undefined ? `oci:${path}` : `oci:${path}:${repository}`;
    this.#parts = parts;
    this.#repository = repository;
    this.#blobs = blobs;
    this.#index = index;
  }

  /** An image is found by its digest only if it is whole, so that a copy mends what is not. */
  async find(tagOrDigest: string, options: ContentOptions): Promise<Named | undefined> {
    const content = await this.manifest(tagOrDigest, options);
    if (!content) return undefined;
    const isWhole = !digestPattern.test(tagOrDigest) || (await this.#isWhole(content, options));
    return isWhole ? { mediaType: content.mediaType, digest: content.digest } : undefined;
  }

  async manifest(
    tagOrDigest: string,
    { signal }: ContentOptions,
  ): Promise<ManifestContent | undefined> {
    requireName(tagOrDigest);
    return this.#attempt(signal, async () => {
      if (digestPattern.test(tagOrDigest)) return this.#read(tagOrDigest);
      const named = findTag(await this.#index.read(), this.#repository, tagOrDigest);
      return named && (await this.#read(named.digest, named.mediaType));
    });
  }

  async *tags({ signal }: ContentOptions): AsyncGenerator<string> {
    const { entries } = await this.#attempt(signal, () => this.#index.read());
    const tags = entries.map((entry) => tagOf(entry, this.#repository));
    yield* new Set(tags.filter((tag) => tag !== undefined));
  }

  async referrers(digest: string, { signal }: ContentOptions): Promise<readonly Descriptor[]> {
    return this.#attempt(signal, async () => {
      const index = await this.#index.read();
      const found = new Map<string, Descriptor>();
      for (const { descriptor } of index.entries) {
        if (!descriptor || !isManifestType(descriptor.mediaType)) continue;
        signal.throwIfAborted();
        const known = await this.#describe(descriptor);
        if (known?.subject === digest) found.set(descriptor.digest, withType(descriptor, known));
      }
      const fallback = findTag(index, this.#repository, fallbackTag(digest));
      for (const child of fallback ? await this.#children(fallback) : []) {
        if (!found.has(child.digest)) found.set(child.digest, child);
      }
      return [...found.values()];
    });
  }

  async *blob(
    { digest }: Descriptor,
    options: ContentOptions & { readonly fromByte?: number },
  ): AsyncGenerator<Buffer> {
    try {
      yield* this.#blobs.read(digest, options.fromByte ?? 0, options);
    } catch (error) {
      throw translateError(error, this.#parts.directory.path);
    }
  }

  async hasBlob(digest: string, { signal }: ContentOptions): Promise<boolean> {
    parseDigest(digest);
    return this.#attempt(signal, () => this.#blobs.has(digest));
  }

  /** The repositories of a layout have their blobs in common: what one has, all have. */
  async mountBlob(digest: string, _from: string, options: ContentOptions): Promise<boolean> {
    return this.hasBlob(digest, options);
  }

  async writeBlob(
    descriptor: Descriptor,
    open: (fromByte: number) => AsyncIterable<Buffer>,
    options: ContentOptions & { readonly onProgress?: (sentBytes: number) => void },
  ): Promise<void> {
    await this.#attempt(options.signal, () => this.#blobs.write(descriptor, open, options));
  }

  async putManifest(
    tagOrDigest: string,
    content: ManifestContent,
    { signal }: ContentOptions,
  ): Promise<void> {
    const { mediaType, digest, bytes } = content;
    requireName(tagOrDigest);
    const isDigest = digestPattern.test(tagOrDigest);
    if (hash(digest.startsWith("sha512:") ? "sha512" : "sha256", bytes) !== digest.split(":")[1]) {
      throw new WrongContentError(digest, this.name, "its bytes have another digest");
    }
    if (isDigest && tagOrDigest !== digest) {
      throw new WrongContentError(tagOrDigest, this.name, `it is "${digest}"`);
    }
    const { subject, artifactType } = parseContent(content);
    const descriptor = {
      mediaType,
      digest,
      sizeBytes: bytes.length,
      ...(subject && artifactType !== undefined && { artifactType }),
    };
    await this.#attempt(signal, async () => {
      await this.#blobs.writeWhole(digest, bytes, { signal });
      if (!isDigest) {
        await this.#index.update(
          (index) => withTag(index, this.#repository, tagOrDigest, descriptor),
          { signal },
        );
      } else if (subject) {
        await this.#index.update((index) => withUnnamed(index, descriptor), { signal });
      }
    });
  }

  /** Of the files it removes the manifest's alone, and not even that if other repositories need it. */
  async deleteManifest(
    tagOrDigest: string,
    { signal }: ContentOptions,
  ): Promise<"deleted" | "absent"> {
    requireName(tagOrDigest);
    return this.#attempt(signal, async () => {
      const repository = this.#repository;
      if (!digestPattern.test(tagOrDigest)) {
        if (!findTag(await this.#index.read(), repository, tagOrDigest)) return "absent";
        await this.#index.update((index) => withoutTag(index, repository, tagOrDigest), { signal });
        return "deleted";
      }
      if (!(await this.#read(tagOrDigest))) return "absent";
      const { entries } = await this.#index.update(
        (index) => withoutDigest(index, repository, tagOrDigest),
        { signal },
      );
      const others = entries.filter((entry) => isOfOthers(entry, repository));
      const needed = others.flatMap(({ descriptor }) => (descriptor ? [descriptor] : []));
      if (!(await this.#reaches(needed, tagOrDigest))) await this.#blobs.remove(tagOrDigest);
      return "deleted";
    });
  }

  /** Whether some manifests, or those that their indexes name, are of a digest. */
  async #reaches(from: readonly Descriptor[], digest: string): Promise<boolean> {
    const seen = new Map(from.map((descriptor) => [descriptor.digest, descriptor]));
    for (const [found, descriptor] of seen) {
      if (found === digest) return true;
      if (!isIndexType(descriptor.mediaType)) continue;
      for (const child of await this.#children(descriptor)) seen.set(child.digest, child);
    }
    return false;
  }

  async #attempt<T>(signal: AbortSignal, act: () => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    try {
      return await act();
    } catch (error) {
      signal.throwIfAborted();
      throw translateError(error, this.#parts.directory.path);
    }
  }

  /** Blobs and manifests are files alike: what looks like a manifest may have come as a layer. */
  async #isWhole(content: ManifestContent, { signal }: ContentOptions): Promise<boolean> {
    const parsed = parseContent(content);
    if (parsed.kind === "index") return true;
    const blobs = [...(parsed.config ? [parsed.config] : []), ...parsed.layers];
    for (const blob of blobs) {
      if (!isForeign(blob) && !(await this.hasBlob(blob.digest, { signal }))) return false;
    }
    return true;
  }

  async #read(digest: string, stated?: string): Promise<ManifestContent | undefined> {
    const file = await this.#parts.directory.openBlob(digest);
    if (!file) return undefined;
    try {
      if ((await file.stat()).size > maxManifestBytes) return undefined;
      const bytes = await file.readFile();
      const mediaType = mediaTypeOfContent(bytes) ?? stated;
      if (mediaType === undefined || !isManifestType(mediaType)) return undefined;
      const [algorithm = "", hex] = digest.split(":");
      if (hash(algorithm, bytes) === hex) return { mediaType, digest, bytes };
      throw new WrongContentError(digest, this.name, "its bytes have another digest");
    } finally {
      await file.close();
    }
  }

  async #describe({ digest, mediaType }: Descriptor): Promise<Known | undefined> {
    const known = this.#parts.known.get(digest);
    if (known) return known;
    try {
      const content = await this.#read(digest, mediaType);
      if (!content) return undefined;
      const { subject, artifactType } = parseContent(content);
      const read = {
        ...(subject && { subject: subject.digest }),
        ...(artifactType !== undefined && { artifactType }),
      };
      this.#parts.known.set(digest, read);
      return read;
    } catch (error) {
      // One broken entry must not hide what refers to others. Who reads it will hear of it.
      if (error instanceof ManifestError || error instanceof WrongContentError) return undefined;
      throw error;
    }
  }

  async #children({ digest, mediaType }: Descriptor): Promise<readonly Descriptor[]> {
    const content = await this.#read(digest, mediaType);
    const parsed = content && parseContent(content);
    return parsed?.kind === "index" ? parsed.children : [];
  }
}

/** @throws {InvalidReferenceError} */
function requireName(tagOrDigest: string): void {
  if (!digestPattern.test(tagOrDigest)) parseTag(tagOrDigest);
}

function withType(descriptor: Descriptor, { artifactType }: Known): Descriptor {
  return artifactType === undefined ? descriptor : { ...descriptor, artifactType };
}
