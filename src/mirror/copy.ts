import { Semaphore } from "#async/semaphore.ts";
import { TaskGroup } from "#async/task-group.ts";
import type { ContentSource, Descriptor, ManifestContent, Named } from "#oci/content.ts";
import { isIndexType, parseContent, type ImageContent } from "#oci/manifest.ts";
import { digestPattern, parseTag } from "#oci/reference.ts";
import { hasPlatform, platformOfConfig } from "#remote/manifest.ts";
import type { BlobPool, TargetRepository } from "./blob-pool.ts";
import {
  CopyError,
  CopyTally,
  outcomeOf,
  type BeforeCopy,
  type CopyEvent,
  type CopyOutcome,
  type TagResult,
} from "./copy-result.ts";
import { FairSlots, type Parties } from "./fair-slots.ts";
import { GraphCopy, type CopyScope } from "./graph-copy.ts";
import { linksOf, type Links } from "./links.ts";
import { filterIndex, isFilteredFrom, requirePlatform } from "./platforms.ts";
import { ReferrerCopy } from "./referrer-copy.ts";
import { readSmallBlob } from "./small-blob.ts";
import { TargetTags } from "./target-tags.ts";

/** How many blobs are in flight at the same time, where nobody says. */
const defaultSlots = 4;

/** How many blobs of one tag stand in line for slots. */
const maxBlobsInLine = 8;

export interface RepositoryCopyOptions {
  readonly source: ContentSource;
  readonly target: TargetRepository;
  /** Of the target's registry, for a whole run. */
  readonly blobs: BlobPool;
  /** Caps the blobs in flight; share one between copies to bound them together. */
  readonly slots?: FairSlots;
  /** On whose behalf, for those who share slots. */
  readonly parties?: Parties;
  /** Which platforms of an index to take, like `linux/arm64`. Empty or not given: all, as they are. */
  readonly platforms?: readonly string[];
  /** Whether to copy what refers to images. */
  readonly referrers?: boolean;
  /** Whether to look for new referrers of tags that are unchanged; or of which of them. */
  readonly referrersDue?: boolean | ReadonlySet<string>;
  /** Whether only to say what would be copied. */
  readonly dryRun?: boolean;
  readonly beforeCopy?: BeforeCopy | undefined;
  readonly onEvent?: (event: CopyEvent) => void;
  /** The run's: several tags may wait for what one of them began. */
  readonly signal: AbortSignal;
}

/** What a tag names at the source, as it is to be at the target. */
interface Wanted {
  readonly content: ManifestContent;
  readonly links: Links;
  readonly digestDiffers: boolean;
}

/**
 * Copies tags of one repository to another, each with its whole graph: platforms, configurations, layers,
 * and what refers to them. Digests are preserved, and bytes are never changed, unless `platforms` asks for
 * less than there is.
 *
 * ```ts
 * const copy = new RepositoryCopy({ source, target: { repository, path: "org/app" }, blobs, signal });
 * const result = await copy.copyTag("1.2");
 * ```
 *
 * The tag moves last: who pulls by it meanwhile gets the old image, whole, or the new one with its
 * signatures. Repeating a copy sends only what the target lacks. One instance is for one run: it remembers
 * what it has seen.
 */
export class RepositoryCopy {
  readonly #options: RepositoryCopyOptions;
  readonly #targetTags: TargetTags;
  readonly #graph: GraphCopy;
  readonly #referrers: ReferrerCopy;

  constructor(options: RepositoryCopyOptions) {
    const { source, target, blobs, parties = [], signal } = options;
    const { slots = new FairSlots(defaultSlots) } = options;
    this.#options = options;
    this.#targetTags = new TargetTags(target.repository, { signal });
    const isNew = (): boolean => this.#targetTags.isNew;
    this.#graph = new GraphCopy({ source, target, blobs, slots, parties, isNew });
    this.#referrers = new ReferrerCopy({
      source,
      target: target.repository,
      graph: this.#graph,
      signal,
    });
  }

  /**
   * Copies what a tag or digest names. A digest is copied as it is, whatever `platforms` says: less than it
   * would be another digest.
   *
   * Where both sides agree already, nothing but that is asked of the source.
   *
   * @throws only the signal's reason, if aborted. Failures are results.
   */
  async copyTag(tag: string): Promise<TagResult> {
    const tally = new CopyTally();
    this.#emit({ kind: "tagStarted", ...this.#names(tag) });
    let outcome: CopyOutcome;
    try {
      outcome = await this.#copy(tag, tally);
    } catch (error) {
      this.#options.signal.throwIfAborted();
      outcome = outcomeOf(error);
    }
    const result = { tag, ...outcome, ...tally.counts };
    this.#emit({ kind: "tagDone", ...this.#names(tag), result });
    return result;
  }

  async #copy(tag: string, tally: CopyTally): Promise<CopyOutcome> {
    const { source, target, dryRun = false, signal } = this.#options;
    const isDigest = digestPattern.test(tag);
    if (!isDigest) parseTag(tag);
    const platforms = isDigest ? [] : (this.#options.platforms ?? []);
    const there = await (isDigest ? target.repository : this.#targetTags).find(tag, { signal });
    // A tag that is not there is read at once: asking first would be a request for nothing.
    const named = there && (isDigest ? there : await source.find(tag, { signal }));
    if (there && !named) throw notFound(tag);
    const digestDiffers = there?.digest !== named?.digest;
    if (there && named && (await this.#isCurrent(there, named, platforms))) {
      if (dryRun || !this.#areReferrersDue(tag))
        return { outcome: "unchanged", digest: there.digest, digestDiffers };
      const came = await this.#copyNewReferrers(tag, there, digestDiffers, tally);
      return { outcome: came ? "copied" : "unchanged", digest: there.digest, digestDiffers };
    }
    if (dryRun) {
      if (!named && !(await source.find(tag, { signal }))) throw notFound(tag);
      return { outcome: "planned" };
    }
    const known = platforms.length === 0 && named ? await this.#known(named.digest) : undefined;
    const content = known ?? (await source.manifest(tag, { signal }));
    if (!content) throw notFound(tag);
    return this.#copyContent(tag, await this.#want(content, platforms), tally, there !== undefined);
  }

  #areReferrersDue(tag: string): boolean {
    const { referrersDue = false } = this.#options;
    return typeof referrersDue === "boolean" ? referrersDue : referrersDue.has(tag);
  }

  async #copyContent(
    tag: string,
    wanted: Wanted,
    tally: CopyTally,
    isThere: boolean,
  ): Promise<CopyOutcome> {
    const { referrers = true, signal } = this.#options;
    const { content, links, digestDiffers } = wanted;
    const { digest } = content;
    await using group = new TaskGroup(signal);
    const scope = this.#scope(group, tag, tally, isThere);
    await this.#graph.copyContents(links, scope);
    if (referrers) await this.#referrers.copyAll(this.#manifestsOf(wanted), scope);
    await this.#graph.put(digestPattern.test(tag) ? digest : tag, content, links, scope);
    return { outcome: "copied", digest, digestDiffers };
  }

  /** What refers to an index is not about one that was made of it, but is to the images in both. */
  #manifestsOf({ content, links, digestDiffers }: Wanted): string[] {
    const below = links.manifests.flatMap((digest) => this.#graph.manifestsBelow(digest));
    return digestDiffers ? below : [content.digest, ...below];
  }

  /** @returns whether there were any. */
  async #copyNewReferrers(
    tag: string,
    there: Named,
    digestDiffers: boolean,
    tally: CopyTally,
  ): Promise<boolean> {
    const { target, referrers = true, signal } = this.#options;
    const content = referrers
      ? await target.repository.manifest(there.digest, { signal })
      : undefined;
    if (!content) return false;
    await using group = new TaskGroup(signal);
    const scope = this.#scope(group, tag, tally, true);
    const links = linksOf(content);
    if (isIndexType(content.mediaType)) await this.#graph.copyContents(links, scope);
    await this.#referrers.copyAll(this.#manifestsOf({ content, links, digestDiffers }), scope);
    return tally.counts.manifestsCopied > 0;
  }

  /** Whether the target has what `platforms` makes of what the source has. They may be new, too. */
  async #isCurrent(there: Named, named: Named, platforms: readonly string[]): Promise<boolean> {
    const { target, signal } = this.#options;
    const isSame = there.digest === named.digest;
    if (platforms.length === 0 || !isIndexType(there.mediaType)) return isSame;
    const content = await target.repository.manifest(there.digest, { signal });
    if (!content) return false;
    return isSame
      ? filterIndex(content, platforms).digest === content.digest
      : isFilteredFrom(content, named.digest, platforms);
  }

  /** What the target has under another tag need not be read from the source. */
  async #known(digest: string): Promise<ManifestContent | undefined> {
    const { target, signal } = this.#options;
    return target.repository.manifest(digest, { signal });
  }

  async #want(content: ManifestContent, platforms: readonly string[]): Promise<Wanted> {
    if (platforms.length === 0) return { content, links: linksOf(content), digestDiffers: false };
    const parsed = parseContent(content);
    if (parsed.kind === "image") {
      await this.#requirePlatform(parsed, platforms);
      return { content, links: linksOf(content), digestDiffers: false };
    }
    const filtered = filterIndex(content, platforms);
    const digestDiffers = filtered.digest !== content.digest;
    return { content: filtered, links: linksOf(filtered), digestDiffers };
  }

  /** An image by itself says in its configuration what it is for; other artifacts are for all. */
  async #requirePlatform({ config }: ImageContent, platforms: readonly string[]): Promise<void> {
    const { source, signal } = this.#options;
    if (!config || !hasPlatform(config)) return;
    const bytes = await readSmallBlob(source, config, { signal });
    requirePlatform(platformOfConfig(bytes), platforms);
  }

  #scope(group: TaskGroup, tag: string, tally: CopyTally, isThere: boolean): CopyScope {
    const names = this.#names(tag);
    const { beforeCopy } = this.#options;
    let begun: Promise<void> | undefined;
    return {
      group,
      tally,
      line: new Semaphore(maxBlobsInLine),
      onProgress: ({ digest, sizeBytes }: Descriptor, sentBytes) =>
        this.#emit({ kind: "blobProgress", ...names, digest, sentBytes, sizeBytes }),
      onBlob: ({ digest, sizeBytes }: Descriptor, how) =>
        this.#emit({ kind: "blobDone", ...names, digest, sizeBytes, how }),
      beforeWrite:
        beforeCopy &&
        (() => (begun ??= beforeCopy(tag, { isThere, targetTags: this.#targetTags.known }))),
    };
  }

  #names(tag: string): { source: string; target: string; tag: string } {
    const { source, target } = this.#options;
    return { source: source.name, target: target.repository.name, tag };
  }

  #emit(event: CopyEvent): void {
    this.#options.onEvent?.(event);
  }
}

function notFound(tag: string): CopyError {
  const kind = digestPattern.test(tag) ? "digest" : "tag";
  return new CopyError("NOT_FOUND", `the source has no such ${kind} "${tag}"`);
}
