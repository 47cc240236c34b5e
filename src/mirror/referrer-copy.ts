import { Semaphore } from "#async/semaphore.ts";
import { TaskGroup } from "#async/task-group.ts";
import type { ContentSource, ContentTarget, Descriptor } from "#oci/content.ts";
import { isManifestType } from "#oci/manifest.ts";
import {
  compareSignatures,
  cosignTagPattern,
  cosignTagsOf,
  fallbackTagPattern,
  maxTags,
} from "./attached-tags.ts";
import { CopyError } from "./copy-result.ts";
import type { CopyScope, GraphCopy } from "./graph-copy.ts";
import { linksOf } from "./links.ts";
import { SharedWork } from "./shared-work.ts";

/** Signatures of signatures are about as far as anybody goes. */
const maxLevels = 4;

/** Of one tag. More than this is nobody's signatures, but an attack on who copies them. */
const maxReferrers = 1_000;

/** How many lists of referrers are asked for at the same time. */
const maxLists = 4;

export interface ReferrerCopyOptions {
  readonly source: ContentSource;
  readonly target: ContentTarget;
  readonly graph: GraphCopy;
  /** The run's: what several tags wait for does not end with one of them. */
  readonly signal: AbortSignal;
}

/** Copies what refers to manifests into one repository: signatures, attestations, lists of content. */
export class ReferrerCopy {
  readonly #options: ReferrerCopyOptions;
  /** Manifests whose referrers are copied in this run, and which these are. */
  readonly #done = new Map<string, readonly string[]>();
  readonly #shared = new SharedWork();
  readonly #slots = new Semaphore(maxLists);
  #attachedTags: Promise<ReadonlySet<string> | undefined> | undefined;

  constructor(options: ReferrerCopyOptions) {
    this.#options = options;
  }

  /** Copies all that refers to these manifests, and what refers to that in turn. */
  async copyAll(digests: readonly string[], scope: CopyScope): Promise<void> {
    const seen = new Set<string>();
    let found = 0;
    let level: readonly string[] = digests;
    for (let depth = 0; depth < maxLevels && level.length > 0; depth++) {
      const fresh = [...new Set(level)].filter((digest) => !seen.has(digest));
      for (const digest of fresh) seen.add(digest);
      const next = await Promise.all(
        fresh.map((digest) => scope.group.run(() => this.#copyReferrersOf(digest, scope))),
      );
      level = next.flat();
      found += level.length;
      requireFew(found);
    }
  }

  /** @returns the manifests that refer to it, and those below them, for what refers to these. */
  async #copyReferrersOf(digest: string, scope: CopyScope): Promise<readonly string[]> {
    const { signal } = scope.group;
    if (!this.#done.has(digest)) {
      await this.#shared.do(digest, signal, async () => {
        await using group = new TaskGroup(signal);
        const own = { ...scope, group };
        await this.#copyCosignTags(digest, own);
        const found = await this.#copyListed(digest, own);
        const below = found.flatMap((referrer) => this.#options.graph.manifestsBelow(referrer));
        this.#done.set(digest, below);
      });
    }
    return this.#done.get(digest) ?? [];
  }

  /** @returns those that the target has now. */
  async #copyListed(digest: string, scope: CopyScope): Promise<string[]> {
    const listed = await this.#list(digest, scope);
    requireFew(listed.length);
    const came: string[] = [];
    const there: string[] = [];
    const copyOne = async ({ mediaType, digest: referrer }: Descriptor): Promise<void> => {
      if (!isManifestType(mediaType)) return;
      const outcome = await this.#options.graph.copyManifest(referrer, scope, { subject: digest });
      if (outcome === "copied") came.push(referrer);
      if (outcome === "there") there.push(referrer);
    };
    await Promise.all(listed.map((each) => scope.group.run(() => copyOne(each))));
    if (there.length === 0) return came;
    return [...came, ...(await this.#requireListed(digest, there, scope))];
  }

  async #list(digest: string, { group: { signal } }: CopyScope): Promise<readonly Descriptor[]> {
    using _slot = await this.#slots.acquire({ signal });
    return await this.#options.source.referrers(digest, {
      signal,
      tags: await this.#listAttachedTags(),
    });
  }

  /**
   * Sees to it that the target tells of referrers that it has. Who wrote them may have been killed before
   * they were listed (distribution-spec, "Unavailable Referrers API"); storing them again does that.
   *
   * @returns those that do refer to it: a list at the source may name anything.
   */
  async #requireListed(
    digest: string,
    referrers: readonly string[],
    { group: { signal }, beforeWrite }: CopyScope,
  ): Promise<string[]> {
    const { target } = this.#options;
    const listed = new Set((await target.referrers(digest, { signal })).map((each) => each.digest));
    const found = referrers.filter((referrer) => listed.has(referrer));
    for (const referrer of referrers) {
      if (listed.has(referrer)) continue;
      const content = await target.manifest(referrer, { signal });
      if (!content || linksOf(content).subject !== digest) continue;
      await beforeWrite?.();
      await target.putManifest(referrer, content, { signal });
      found.push(referrer);
    }
    return found;
  }

  async #copyCosignTags(digest: string, scope: CopyScope): Promise<void> {
    const attached = await this.#listAttachedTags();
    for (const tag of cosignTagsOf(digest)) {
      if (!attached || attached.has(tag)) await this.#copyCosignTag(tag, scope);
    }
  }

  /** Copies a tag that may have moved: cosign adds signatures to those that are there. */
  async #copyCosignTag(tag: string, scope: CopyScope): Promise<void> {
    const { source, target, graph } = this.#options;
    const { signal } = scope.group;
    const wanted = await source.find(tag, { signal });
    if (!wanted) return;
    const there = await target.find(tag, { signal });
    if (there?.digest === wanted.digest) return;
    const content = await source.manifest(tag, { signal });
    if (!content) return;
    const old = there && (await target.manifest(there.digest, { signal }));
    const fate = old ? compareSignatures(content, old) : "replace";
    if (fate === "keep") return;
    if (fate === "conflict") throw signaturesDiffer(tag);
    const links = linksOf(content);
    await graph.copyContents(links, scope);
    await graph.put(tag, content, links, scope);
  }

  /** Lists the source's tags once, rather than to ask for three tags of each manifest; unless it cannot. */
  async #listAttachedTags(): Promise<ReadonlySet<string> | undefined> {
    this.#attachedTags ??= this.#readAttachedTags();
    return this.#attachedTags;
  }

  async #readAttachedTags(): Promise<ReadonlySet<string> | undefined> {
    const { source, signal } = this.#options;
    const found = new Set<string>();
    let count = 0;
    try {
      for await (const tag of source.tags({ signal })) {
        if (++count > maxTags) return undefined;
        if (cosignTagPattern.test(tag) || fallbackTagPattern.test(tag)) found.add(tag);
      }
      return found;
    } catch (error) {
      if (!signal.aborted && !isRetryable(error)) return undefined; // It may be pulled, but not listed.
      this.#attachedTags = undefined; // The next tag asks for itself.
      throw error;
    }
  }
}

function requireFew(found: number): void {
  if (found <= maxReferrers) return;
  throw new CopyError("TOO_MANY_REFERRERS", `more than ${maxReferrers} others refer to it`);
}

function signaturesDiffer(tag: string): CopyError {
  const reason = `the target has signatures in "${tag}" that the source has not, and lacks some of the source's`;
  return new CopyError("SIGNATURES_DIFFER", reason);
}

function isRetryable(error: unknown): boolean {
  return error instanceof Error && "retryable" in error && error.retryable === true;
}
