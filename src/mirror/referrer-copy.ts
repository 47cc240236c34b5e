import { Semaphore } from "#async/semaphore.ts";
import type { ContentSource, ContentTarget, Descriptor } from "#oci/content.ts";
import { fallbackTag, isManifestType, parseContent } from "#oci/manifest.ts";
import { CopyError } from "./copy-result.ts";
import type { CopyScope, GraphCopy } from "./graph-copy.ts";

/** Signatures of signatures are about as far as anybody goes. */
const maxLevels = 4;

/** Of one tag. More than this is nobody's signatures, but an attack on who copies them. */
const maxReferrers = 1_000;

/** How many lists of referrers are asked for at the same time. */
const maxLists = 4;

/** How cosign names what belongs to a manifest where there is no referrers API. */
const cosignSuffixes = [".sig", ".att", ".sbom"];

/** Tags that belong to a manifest: cosign's, and the referrers' fallback (distribution-spec). */
export const attachedTagPattern = /^sha(?:256|512)-[0-9a-f]{64}(?:\.[a-z]+)?$/;

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
  /** Manifests whose referrers are copied in this run. */
  readonly #done = new Set<string>();
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

  /** @returns the manifests that came, for what refers to them. */
  async #copyReferrersOf(digest: string, scope: CopyScope): Promise<string[]> {
    if (this.#done.has(digest)) return [];
    const { graph } = this.#options;
    await this.#copyCosignTags(digest, scope);
    const listed = await this.#list(digest, scope);
    requireFew(listed.length);
    const found: string[] = [];
    const unsure: string[] = [];
    await Promise.all(
      listed.map(({ mediaType, digest: referrer }) =>
        scope.group.run(async () => {
          if (!isManifestType(mediaType)) return;
          const outcome = await graph.copyManifest(referrer, scope, { subject: digest });
          if (outcome !== "absent") found.push(referrer);
          if (outcome === "there") unsure.push(referrer);
        }),
      ),
    );
    if (unsure.length > 0) await this.#requireListed(digest, unsure, scope);
    this.#done.add(digest);
    return found.flatMap((referrer) => graph.manifestsBelow(referrer));
  }

  async #list(digest: string, { group: { signal } }: CopyScope): Promise<readonly Descriptor[]> {
    using _slot = await this.#slots.acquire({ signal });
    return await this.#options.source.referrers(digest, { signal });
  }

  /**
   * Sees to it that the target tells of referrers that it has. Who wrote them may have been killed before
   * they were listed (distribution-spec, "Unavailable Referrers API"); storing them again does that.
   */
  async #requireListed(
    digest: string,
    referrers: readonly string[],
    { group: { signal } }: CopyScope,
  ): Promise<void> {
    const { target } = this.#options;
    const listed = new Set((await target.referrers(digest, { signal })).map((each) => each.digest));
    for (const referrer of referrers) {
      if (listed.has(referrer)) continue;
      const content = await target.manifest(referrer, { signal });
      if (content) await target.putManifest(referrer, content, { signal });
    }
  }

  async #copyCosignTags(digest: string, scope: CopyScope): Promise<void> {
    const attached = await this.#listAttachedTags();
    for (const suffix of cosignSuffixes) {
      const tag = fallbackTag(digest) + suffix;
      if (!attached || attached.has(tag)) await this.#copyTag(tag, scope);
    }
  }

  /** Copies a tag that may have moved: cosign adds signatures to the one that is there. */
  async #copyTag(tag: string, scope: CopyScope): Promise<void> {
    const { source, target, graph } = this.#options;
    const { signal } = scope.group;
    const wanted = await source.find(tag, { signal });
    if (!wanted) return;
    const there = await target.find(tag, { signal });
    if (there?.digest === wanted.digest) return;
    const content = await source.manifest(tag, { signal });
    if (!content) return;
    const parsed = parseContent(content);
    await graph.copyContents(parsed, scope);
    await graph.put(tag, content, parsed, scope);
  }

  /** Lists the source's tags once, rather than to ask for three tags of each manifest. */
  async #listAttachedTags(): Promise<ReadonlySet<string> | undefined> {
    this.#attachedTags ??= this.#readAttachedTags();
    return this.#attachedTags;
  }

  async #readAttachedTags(): Promise<ReadonlySet<string> | undefined> {
    const { source, signal } = this.#options;
    const found = new Set<string>();
    try {
      for await (const tag of source.tags({ signal })) {
        if (attachedTagPattern.test(tag)) found.add(tag);
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

function isRetryable(error: unknown): boolean {
  return error instanceof Error && "retryable" in error && error.retryable === true;
}
