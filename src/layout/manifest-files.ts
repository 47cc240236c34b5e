import { hash } from "node:crypto";

import { WrongContentError, type Descriptor, type ManifestContent } from "#oci/content.ts";
import {
  isForeign,
  isIndexType,
  isManifestType,
  ManifestError,
  maxManifestBytes,
  mediaTypeOfContent,
  parseContent,
  type ImageContent,
  type IndexContent,
} from "#oci/manifest.ts";
import type { BlobFiles } from "./blob-files.ts";
import type { LayoutDirectory } from "./layout-directory.ts";
import { LayoutError } from "./layout-error.ts";
import type { LayoutIndex } from "./layout-index.ts";

/** An index in an index in an index is all that anybody makes. */
const maxDepth = 4;

/** Where a manifest is. */
export interface Place {
  readonly digest: string;
  /** What it is where it does not say. */
  readonly mediaType?: string;
}

/** What a manifest says of itself. */
interface Known {
  readonly subject?: string;
  readonly artifactType?: string;
}

/**
 * The manifests of a layout. They are blobs among others: what looks like one may have come as a layer, and
 * what it names need not be there.
 */
export class ManifestFiles {
  readonly #directory: LayoutDirectory;
  readonly #blobs: BlobFiles;
  /** Kept, since content never changes. */
  readonly #known = new Map<string, Promise<Known | undefined>>();
  /** Files that are no manifests, although an entry says so: nobody reads them twice. */
  readonly #broken = new Map<string, string>();
  /** What refers to what, for as long as the index is the same. */
  #referrers: { readonly index: LayoutIndex; readonly bySubject: Referrers } | undefined;

  constructor(directory: LayoutDirectory, blobs: BlobFiles) {
    this.#directory = directory;
    this.#blobs = blobs;
  }

  /**
   * Reads a manifest; `undefined` if it is not there, or is none.
   *
   * @throws {WrongContentError} if its bytes have another digest.
   */
  async read({ digest, mediaType: stated }: Place): Promise<ManifestContent | undefined> {
    const file = await this.#directory.openBlob(digest);
    if (!file) return undefined;
    try {
      if ((await file.stat()).size > maxManifestBytes) return undefined;
      const bytes = await file.readFile();
      const mediaType = mediaTypeOfContent(bytes) ?? stated;
      if (mediaType === undefined || !isManifestType(mediaType)) return undefined;
      const [algorithm = "", hex] = digest.split(":");
      if (hash(algorithm, bytes) === hex) return { mediaType, digest, bytes };
      const where = `oci:${this.#directory.path}`;
      throw new WrongContentError(digest, where, "its bytes have another digest");
    } finally {
      await file.close();
    }
  }

  /**
   * Reads a manifest only if all is there that it names, and what those name in turn: manifests with the
   * right bytes, and blobs of the right size. What is wrong with it is not told.
   */
  async readWhole(place: Place): Promise<ManifestContent | undefined> {
    try {
      const content = await this.read(place);
      return content && (await this.#isWhole(content, new Set(), 0)) ? content : undefined;
    } catch (error) {
      if (!isBroken(error)) throw error;
      return undefined;
    }
  }

  async #isWhole(content: ManifestContent, seen: Set<string>, depth: number): Promise<boolean> {
    if (seen.has(content.digest)) return true;
    seen.add(content.digest);
    const parsed = parseContent(content);
    for (const named of namedIn(parsed)) {
      if (parsed.kind === "index" && isManifestType(named.mediaType)) {
        const child = depth < maxDepth && (await this.read(named));
        if (!child || !(await this.#isWhole(child, seen, depth + 1))) return false;
      } else if (!isForeign(named)) {
        if ((await this.#blobs.sizeOf(named.digest)) !== named.sizeBytes) return false;
      }
    }
    return true;
  }

  /** Remembers a manifest that has been stored. */
  remember(digest: string, content: IndexContent | ImageContent): void {
    this.#known.set(digest, Promise.resolve(knownOf(content)));
    this.#referrers = undefined;
  }

  /** Names the manifest that another one refers to; `undefined` if it refers to none, or is none. */
  async subjectOf(manifest: Place): Promise<string | undefined> {
    return (await this.#describe(manifest))?.subject;
  }

  /** Whether a manifest refers to one of some, or to what they name, perhaps by way of other referrers. */
  async refersInto(some: readonly Descriptor[], manifest: Place): Promise<boolean> {
    let subject = await this.subjectOf(manifest);
    while (subject !== undefined && !(await this.reaches(some, subject))) {
      subject = await this.subjectOf({ digest: subject });
    }
    return subject !== undefined;
  }

  /** Lists what refers to a manifest by its subject, of what an index names. */
  async referrers(
    index: LayoutIndex,
    digest: string,
    { signal }: { signal: AbortSignal },
  ): Promise<readonly Descriptor[]> {
    if (this.#referrers?.index === index) return this.#referrers.bySubject.get(digest) ?? [];
    const bySubject = new Map<string, Descriptor[]>();
    let isComplete = true;
    for (const descriptor of index.manifests()) {
      if (!isManifestType(descriptor.mediaType)) continue;
      signal.throwIfAborted();
      const known = await this.#describe(descriptor);
      isComplete &&= known !== undefined; // Else it is looked at again: somebody may mend it.
      if (known?.subject === undefined) continue;
      const { artifactType } = known;
      const referrer = { ...descriptor, ...(artifactType !== undefined && { artifactType }) };
      const others = bySubject.get(known.subject);
      if (others) others.push(referrer);
      else bySubject.set(known.subject, [referrer]);
    }
    if (isComplete) this.#referrers = { index, bySubject };
    return bySubject.get(digest) ?? [];
  }

  /** Lists what an index names; nothing if it is none. */
  async children(index: Descriptor): Promise<readonly Descriptor[]> {
    const content = await this.read(index);
    const parsed = content && parseContent(content);
    return parsed?.kind === "index" ? parsed.children : [];
  }

  /** Whether some manifests, or those that their indexes name, are of a digest. */
  async reaches(from: readonly Descriptor[], digest: string): Promise<boolean> {
    const seen = new Map(from.map((descriptor) => [descriptor.digest, descriptor]));
    for (const [found, descriptor] of seen) {
      if (found === digest) return true;
      if (!isIndexType(descriptor.mediaType)) continue;
      for (const child of await this.children(descriptor)) seen.set(child.digest, child);
    }
    return false;
  }

  async #describe(manifest: Place): Promise<Known | undefined> {
    const { digest } = manifest;
    const known = this.#known.get(digest) ?? this.#look(manifest);
    this.#known.set(digest, known);
    try {
      const found = await known;
      if (!found) this.#known.delete(digest);
      return found;
    } catch (error) {
      this.#known.delete(digest);
      throw error;
    }
  }

  /** One broken entry must not hide what refers to others. Who reads it will hear of it. */
  async #look(manifest: Place): Promise<Known | undefined> {
    const { digest } = manifest;
    let version: string | undefined;
    try {
      version = (await this.#directory.statBlob(digest))?.version;
      if (version === undefined || this.#broken.get(digest) === version) return undefined;
      const content = await this.read(manifest);
      if (content) return knownOf(parseContent(content));
    } catch (error) {
      if (!isBroken(error)) throw error;
    }
    if (version !== undefined) this.#broken.set(digest, version);
    return undefined;
  }
}

type Referrers = ReadonlyMap<string, readonly Descriptor[]>;

/** Whether an error says that content is not what it should be, and not that it cannot be read. */
function isBroken(error: unknown): boolean {
  if (error instanceof ManifestError || error instanceof WrongContentError) return true;
  return error instanceof LayoutError && error.code === "BAD_LAYOUT";
}

function namedIn(content: IndexContent | ImageContent): readonly Descriptor[] {
  if (content.kind === "index") return content.children;
  return content.config ? [content.config, ...content.layers] : content.layers;
}

function knownOf({ subject, artifactType }: IndexContent | ImageContent): Known {
  return {
    ...(subject && { subject: subject.digest }),
    ...(artifactType !== undefined && { artifactType }),
  };
}
