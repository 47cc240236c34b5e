import { hash } from "node:crypto";

import {
  WrongContentError,
  type ContentOptions,
  type ContentTarget,
  type Descriptor,
  type ManifestContent,
  type Named,
} from "#oci/content.ts";
import { fallbackTag, parseContent, type ImageContent, type IndexContent } from "#oci/manifest.ts";
import { digestPattern, parseDigest, parseTag } from "#oci/reference.ts";
import type { BlobFiles } from "./blob-files.ts";
import type { IndexFile } from "./index-file.ts";
import { translateError } from "./layout-error.ts";
import type { ManifestFiles, Place } from "./manifest-files.ts";

/** What the repositories of a layout have in common. */
export interface LayoutParts {
  /** As it was given, for people. */
  readonly path: string;
  readonly blobs: BlobFiles;
  readonly manifests: ManifestFiles;
  readonly index: IndexFile;
}

/**
 * One repository of an OCI layout; `Layout.repository` gives it.
 *
 * The repositories of a layout have blobs and manifests in common, and their tags apart. Manifests that
 * are stored by digest alone have entries without a name in `index.json`, which belong to all of them. Those
 * that refer to others keep theirs, so that they are found; the others lose theirs to an index that names
 * them.
 *
 * Every method throws {@link LayoutError} if the directory does not do what was asked.
 */
export class LayoutRepository implements ContentTarget {
  readonly name: string;
  readonly #path: string;
  readonly #repository: string | undefined;
  readonly #isSource: boolean;
  readonly #blobs: BlobFiles;
  readonly #manifests: ManifestFiles;
  readonly #index: IndexFile;

  /**
   * @param repository - in full; if not given, the layout is a single repository.
   * @param options.isSource - whether to find what is not whole, too.
   */
  constructor(
    { path, blobs, manifests, index }: LayoutParts,
    repository: string | undefined,
    { isSource }: { isSource: boolean },
  ) {
    this.name = repository === undefined ? `oci:${path}` : `oci:${path}:${repository}`;
    this.#path = path;
    this.#repository = repository;
    this.#isSource = isSource;
    this.#blobs = blobs;
    this.#manifests = manifests;
    this.#index = index;
  }

  /**
   * Finds what is named only if it is whole: its bytes are right, and what they name is there and has the
   * right size. So a copy mends what is not. A source finds all, so that a copy of it fails and says why.
   */
  async find(tagOrDigest: string, { signal }: ContentOptions): Promise<Named | undefined> {
    requireName(tagOrDigest);
    return this.#attempt(signal, async () => {
      const named = await this.#locate(tagOrDigest);
      if (!named) return undefined;
      const content = await (this.#isSource
        ? this.#manifests.read(named)
        : this.#manifests.readWhole(named));
      return content && { mediaType: content.mediaType, digest: content.digest };
    });
  }

  async manifest(
    tagOrDigest: string,
    { signal }: ContentOptions,
  ): Promise<ManifestContent | undefined> {
    requireName(tagOrDigest);
    return this.#attempt(signal, () => this.#read(tagOrDigest));
  }

  async *tags({ signal }: ContentOptions): AsyncGenerator<string> {
    const index = await this.#attempt(signal, () => this.#index.read());
    yield* index.tags(this.#repository);
  }

  async referrers(digest: string, { signal }: ContentOptions): Promise<readonly Descriptor[]> {
    return this.#attempt(signal, async () => {
      const index = await this.#index.read();
      const found = await this.#manifests.referrers(index, digest, { signal });
      const fallback = index.find(this.#repository, fallbackTag(digest));
      const listed = fallback ? await this.#manifests.children(fallback) : [];
      const known = new Set(found.map((each) => each.digest));
      return [...found, ...listed.filter((each) => !known.has(each.digest))];
    });
  }

  async *blob(
    { digest }: Descriptor,
    options: ContentOptions & { readonly fromByte?: number },
  ): AsyncGenerator<Buffer> {
    try {
      yield* this.#blobs.read(digest, options.fromByte ?? 0, options);
    } catch (error) {
      throw translateError(error, this.#path);
    }
  }

  /** A blob that this process has neither read nor written is read, once: what is damaged is not there. */
  async hasBlob(digest: string, { signal }: ContentOptions): Promise<boolean> {
    parseDigest(digest);
    return this.#attempt(signal, () => this.#blobs.has(digest, { signal }));
  }

  /** The repositories of a layout have their blobs in common: what one has, all have. */
  /** There is nothing to take over: what one repository of a layout has, all have. */
  async mountBlob(): Promise<boolean> {
    return false;
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
    const { digest, bytes } = content;
    requireName(tagOrDigest);
    const isDigest = digestPattern.test(tagOrDigest);
    if (hash(digest.startsWith("sha512:") ? "sha512" : "sha256", bytes) !== digest.split(":")[1]) {
      throw new WrongContentError(digest, this.name, "its bytes have another digest");
    }
    if (isDigest && tagOrDigest !== digest) {
      throw new WrongContentError(tagOrDigest, this.name, `it is "${digest}"`);
    }
    const parsed = parseContent(content);
    const descriptor = describe(content, parsed);
    await this.#attempt(signal, async () => {
      await this.#blobs.write(descriptor, (fromByte) => once(bytes.subarray(fromByte)), { signal });
      this.#manifests.remember(digest, parsed);
      const named = await this.#namedSince(parsed);
      await this.#index.update(
        (index) => {
          if (isDigest) index.addUnnamed(descriptor);
          else index.setTag(this.#repository, tagOrDigest, descriptor);
          for (const child of named) index.removeUnnamed(child);
        },
        { signal },
      );
    });
  }

  /** Lists the children of an index that need no entries any more, since it names them. */
  async #namedSince(content: IndexContent | ImageContent): Promise<string[]> {
    const index = await this.#index.read();
    const named: string[] = [];
    for (const child of content.kind === "index" ? content.children : []) {
      if (!index.hasUnnamed(child.digest)) continue;
      if ((await this.#manifests.subjectOf(child)) === undefined) named.push(child.digest);
    }
    return named;
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
        if (!(await this.#index.read()).find(repository, tagOrDigest)) return "absent";
        await this.#index.update((index) => index.removeTag(repository, tagOrDigest), { signal });
        return "deleted";
      }
      const content = await this.#read(tagOrDigest);
      if (!content) return "absent";
      const descriptor = describe(content, parseContent(content));
      const others = (await this.#index.read()).ofOthers(repository);
      const isReferrer = await this.#manifests.refersInto(others, descriptor);
      await this.#index.update(
        (index) => {
          index.removeDigest(repository, tagOrDigest);
          if (isReferrer) index.addUnnamed(descriptor);
        },
        { signal },
      );
      const isNeeded = isReferrer || (await this.#manifests.reaches(others, tagOrDigest));
      if (!isNeeded) await this.#blobs.remove(tagOrDigest);
      return "deleted";
    });
  }

  async #attempt<T>(signal: AbortSignal, act: () => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    try {
      return await act();
    } catch (error) {
      signal.throwIfAborted();
      throw translateError(error, this.#path);
    }
  }

  async #read(tagOrDigest: string): Promise<ManifestContent | undefined> {
    const named = await this.#locate(tagOrDigest);
    return named && this.#manifests.read(named);
  }

  async #locate(tagOrDigest: string): Promise<Place | undefined> {
    if (digestPattern.test(tagOrDigest)) return { digest: tagOrDigest };
    return (await this.#index.read()).find(this.#repository, tagOrDigest);
  }
}

/** @throws {InvalidReferenceError} */
function requireName(tagOrDigest: string): void {
  if (!digestPattern.test(tagOrDigest)) parseTag(tagOrDigest);
}

/** The entry that a manifest has. Only referrers are looked for by their type. */
function describe(
  { mediaType, digest, bytes }: ManifestContent,
  { subject, artifactType }: IndexContent | ImageContent,
): Descriptor {
  const descriptor = { mediaType, digest, sizeBytes: bytes.length };
  return subject && artifactType !== undefined ? { ...descriptor, artifactType } : descriptor;
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}
