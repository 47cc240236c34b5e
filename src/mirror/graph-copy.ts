import { Semaphore } from "#async/semaphore.ts";
import { TaskGroup } from "#async/task-group.ts";
import type { ContentSource, Descriptor, ManifestContent } from "#oci/content.ts";
import { isIndexType } from "#oci/manifest.ts";
import type { BlobPool, TargetRepository } from "./blob-pool.ts";
import { CopyError, type BlobOutcome, type CopyTally } from "./copy-result.ts";
import type { FairSlots, Parties } from "./fair-slots.ts";
import { linksOf, type Links } from "./links.ts";
import { SharedWork } from "./shared-work.ts";

/** An index in an index in an index is all that anybody makes. */
const maxDepth = 4;

/** How many manifests of one repository are read or written at the same time. */
const maxManifests = 8;

/** How many manifests of one index are under way, and in memory, at the same time. */
const maxChildren = 8;

/** The part of a copy that belongs to one tag. */
export interface CopyScope {
  readonly group: TaskGroup;
  readonly tally: CopyTally;
  /** Caps the blobs that stand in line for slots, so that other tags get theirs in between. */
  readonly line: Semaphore;
  readonly onProgress: (blob: Descriptor, sentBytes: number) => void;
  readonly onBlob: (blob: Descriptor, how: BlobOutcome) => void;
  /** Awaited before something is written. */
  readonly beforeWrite?: (() => Promise<void>) | undefined;
}

export interface GraphCopyOptions {
  readonly source: ContentSource;
  readonly target: TargetRepository;
  readonly blobs: BlobPool;
  /** Caps the blobs in flight. */
  readonly slots: FairSlots;
  readonly parties: Parties;
  /** Whether nothing is likely to be at the target, so that asking costs more than it saves. */
  readonly isNew: () => boolean;
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
  async copyContents({ blobs, manifests }: Links, scope: CopyScope, depth = 0): Promise<void> {
    if (depth > maxDepth) {
      throw new CopyError("TOO_DEEP", `it has indexes within indexes, more than ${maxDepth}`);
    }
    const { group } = scope;
    const slots = new Semaphore(maxChildren);
    const copyChild = async (digest: string): Promise<void> => {
      using _slot = await slots.acquire(group);
      await this.copyManifest(digest, scope, { depth: depth + 1 });
    };
    await Promise.all([
      ...blobs.map((blob) => group.run(() => this.#copyBlob(blob, scope))),
      ...manifests.map((digest) => group.run(() => copyChild(digest))),
    ]);
  }

  /** Stores a manifest whose content is there, under its digest or a tag. */
  async put(
    tagOrDigest: string,
    content: ManifestContent,
    { manifests }: Links,
    { group: { signal }, tally, beforeWrite }: CopyScope,
  ): Promise<void> {
    await beforeWrite?.();
    using _slot = await this.#slots.acquire({ signal });
    await this.#options.target.repository.putManifest(tagOrDigest, content, { signal });
    tally.addManifest();
    this.#complete.set(content.digest, manifests);
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
      // A group of its own: that it fails must not look as if this tag, of all that wait, was aborted.
      await using group = new TaskGroup(signal);
      const own = { ...scope, group };
      const { content, isThere } = await this.#read(digest, own);
      if (!content) {
        // Images that are there are not read; nor are referrers that are gone.
        if (isThere) this.#complete.set(digest, []);
        else if (subject === undefined) throw missing(digest);
        return;
      }
      const links = linksOf(content);
      if (!isThere && subject !== undefined && links.subject !== subject) return;
      await this.copyContents(links, own, depth);
      if (isThere) {
        this.#complete.set(digest, links.manifests);
      } else {
        await this.put(digest, content, links, own);
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

  async #copyBlob(descriptor: Descriptor, scope: CopyScope): Promise<void> {
    const { source, target, blobs, slots, parties, isNew } = this.#options;
    using _place = await scope.line.acquire(scope.group);
    await scope.beforeWrite?.();
    const how = await blobs.provide({
      source,
      target,
      descriptor,
      slots,
      parties,
      isNew: isNew(),
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
    const { source, target, isNew } = this.#options;
    const there = isNew() ? undefined : await target.repository.find(digest, { signal });
    if (!there) return { content: await source.manifest(digest, { signal }), isThere: false };
    if (!isIndexType(there.mediaType)) return { isThere: true };
    return { content: await target.repository.manifest(digest, { signal }), isThere: true };
  }
}

function missing(digest: string): CopyError {
  return new CopyError("NOT_FOUND", `its index names "${digest}", which the source does not have`);
}
