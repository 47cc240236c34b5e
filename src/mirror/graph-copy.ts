import { Semaphore } from "#async/semaphore.ts";
import type { TaskGroup } from "#async/task-group.ts";
import type { ContentSource, Descriptor, ManifestContent } from "#oci/content.ts";
import {
  isForeign,
  isIndexType,
  isManifestType,
  parseContent,
  type ImageContent,
  type IndexContent,
} from "#oci/manifest.ts";
import type { BlobPool, TargetRepository } from "./blob-pool.ts";
import { CopyError, type BlobOutcome, type CopyTally } from "./copy-result.ts";
import { SharedWork } from "./shared-work.ts";

/** An index in an index in an index is all that anybody makes. */
const maxDepth = 4;

/** How many manifests of one repository are read or written at the same time. */
const maxManifests = 8;

/** The part of a copy that belongs to one tag. */
export interface CopyScope {
  readonly group: TaskGroup;
  readonly tally: CopyTally;
  readonly onProgress: (blob: Descriptor, sentBytes: number) => void;
  readonly onBlob: (blob: Descriptor, how: BlobOutcome) => void;
}

export interface GraphCopyOptions {
  readonly source: ContentSource;
  readonly target: TargetRepository;
  readonly blobs: BlobPool;
  /** Caps the blobs in flight. */
  readonly slots: Semaphore;
}

/**
 * Copies manifests with everything they name into one repository, and remembers what is complete there.
 *
 * Children go before the manifest that names them: a registry may refuse one whose content it lacks
 * (distribution-spec, MANIFEST_BLOB_UNKNOWN). So what a target has it has whole, and an image that is
 * there is not looked into.
 */
export class GraphCopy {
  readonly #options: GraphCopyOptions;
  readonly #slots = new Semaphore(maxManifests);
  readonly #shared = new SharedWork();
  /** Manifests that the target has with all they name, and which manifests each of them names. */
  readonly #complete = new Map<string, readonly string[]>();

  constructor(options: GraphCopyOptions) {
    this.#options = options;
  }

  /** Copies what a manifest names, but not the manifest. */
  async copyContents(
    content: IndexContent | ImageContent,
    scope: CopyScope,
    depth = 0,
  ): Promise<void> {
    if (depth > maxDepth) {
      throw new CopyError("TOO_DEEP", `it has indexes within indexes, more than ${maxDepth}`);
    }
    const named =
      content.kind === "index"
        ? content.children
        : [...(content.config ? [content.config] : []), ...content.layers];
    await Promise.all(
      unique(named).map((descriptor) =>
        scope.group.run(() => this.#copyNamed(descriptor, scope, depth)),
      ),
    );
  }

  /** Stores a manifest whose content is there, under its digest or a tag. */
  async put(
    tagOrDigest: string,
    content: ManifestContent,
    parsed: IndexContent | ImageContent,
    { group: { signal }, tally }: CopyScope,
  ): Promise<void> {
    using _slot = await this.#slots.acquire({ signal });
    await this.#options.target.repository.putManifest(tagOrDigest, content, { signal });
    tally.addManifest();
    this.#complete.set(content.digest, childrenOf(parsed));
  }

  /**
   * Copies a manifest and what it names, unless the target has it.
   *
   * @param options.subject - what it must refer to. If it does not, or is not there, it is left out.
   * @returns `there` if the target had it already, `absent` if it was left out.
   */
  async copyManifest(
    digest: string,
    scope: CopyScope,
    { depth = 0, subject }: { depth?: number; subject?: string } = {},
  ): Promise<"copied" | "there" | "absent"> {
    if (this.#complete.has(digest)) return "there";
    let outcome: "copied" | "there" = "there";
    const { signal } = scope.group;
    await this.#shared.do(`${digest} ${subject ?? ""}`, signal, async () => {
      const { content, isThere } = await this.#read(digest, scope);
      if (!content) {
        // Images that are there are not read; nor are referrers that are gone.
        if (isThere) this.#complete.set(digest, []);
        else if (subject === undefined) throw missing(digest);
        return;
      }
      const parsed = parseContent(content);
      if (!isThere && subject !== undefined && parsed.subject?.digest !== subject) return;
      await this.copyContents(parsed, scope, depth);
      if (isThere) {
        this.#complete.set(digest, childrenOf(parsed));
      } else {
        await this.put(digest, content, parsed, scope);
        outcome = "copied";
      }
    });
    return this.#complete.has(digest) ? outcome : "absent";
  }

  /** Lists a manifest that is complete, and all manifests below it. */
  manifestsBelow(digest: string): string[] {
    const found = new Set([digest]);
    for (const each of found) for (const child of this.#complete.get(each) ?? []) found.add(child);
    return [...found];
  }

  async #copyNamed(descriptor: Descriptor, scope: CopyScope, depth: number): Promise<void> {
    if (isManifestType(descriptor.mediaType)) {
      await this.copyManifest(descriptor.digest, scope, { depth: depth + 1 });
    } else if (!isForeign(descriptor)) {
      await this.#copyBlob(descriptor, scope);
    }
  }

  async #copyBlob(descriptor: Descriptor, scope: CopyScope): Promise<void> {
    const { source, target, blobs, slots } = this.#options;
    const how = await blobs.provide({
      source,
      target,
      descriptor,
      slots,
      signal: scope.group.signal,
      onProgress: (sentBytes) => scope.onProgress(descriptor, sentBytes),
    });
    scope.tally.addBlob(how, descriptor.sizeBytes);
    scope.onBlob(descriptor, how);
  }

  /** Reads a manifest from where it costs least: at the target if it is there, and images not at all. */
  async #read(
    digest: string,
    { group: { signal } }: CopyScope,
  ): Promise<{ content?: ManifestContent | undefined; isThere: boolean }> {
    using _slot = await this.#slots.acquire({ signal });
    const { source, target } = this.#options;
    const there = await target.repository.find(digest, { signal });
    if (!there) return { content: await source.manifest(digest, { signal }), isThere: false };
    if (!isIndexType(there.mediaType)) return { isThere: true };
    return { content: await target.repository.manifest(digest, { signal }), isThere: true };
  }
}

function missing(digest: string): CopyError {
  return new CopyError("NOT_FOUND", `its index names "${digest}", which the source does not have`);
}

function childrenOf(content: IndexContent | ImageContent): string[] {
  if (content.kind === "image") return [];
  return content.children
    .filter(({ mediaType }) => isManifestType(mediaType))
    .map(({ digest }) => digest);
}

function unique(descriptors: readonly Descriptor[]): Descriptor[] {
  return [...new Map(descriptors.map((each) => [each.digest, each])).values()];
}
