import { Semaphore } from "#async/semaphore.ts";
import { TaskGroup } from "#async/task-group.ts";
import type {
  ContentOptions,
  ContentTarget,
  Descriptor,
  ManifestContent,
  Named,
} from "#oci/content.ts";
import { fallbackTag, isIndexType, ManifestError, parseContent } from "#oci/manifest.ts";
import { cosignTagsOf } from "./attached-tags.ts";

/** How many questions are under way at the same time. */
const maxQuestions = 8;

/** Signatures of signatures are about as far as anybody goes. */
const maxLevels = 4;

/** Of one manifest. Who has more keeps it. */
const maxReferrers = 1_000;

/** How many are read. Where there are more, nothing may be removed by its digest. */
const maxIndexes = 20_000;

export interface NeedOptions extends ContentOptions {
  /** All tags of the repository. */
  readonly tags: ReadonlySet<string>;
  /** Tags and digests that stay. */
  readonly roots: readonly string[];
}

/** By the digest of what may go, those that are needed until it is gone: they are further back. */
export type Removable = ReadonlyMap<string, ReadonlySet<string>>;

/**
 * Tells which of some manifests are no longer needed, and in which order they may go. Needed are those that a root
 * names, those that are in an index that a root names, those that something refers to that is needed, and those that
 * are needed by one another. When in doubt, it is.
 *
 * Tags that attach something to such a manifest, as cosign's and lists of referrers do, need what they name and
 * contain, but do not keep the manifest: they are about it.
 */
export async function findRemovable(
  target: ContentTarget,
  digests: ReadonlySet<string>,
  options: NeedOptions,
): Promise<Removable> {
  const survey = new Survey(target, digests, options);
  return await survey.make();
}

/** Names the tags under which something may be kept that belongs to a manifest. */
export function attachedTagsOf(digest: string): string[] {
  return [fallbackTag(digest), ...cosignTagsOf(digest)];
}

/** How it is gone through what roots name. */
interface Way {
  /** Indexes that were read. */
  readonly seen: Set<string>;
  /** What was found to be needed. */
  readonly needed: Set<string>;
  /** Tells what is needed if something is there. */
  readonly keeps: (digest: string) => Iterable<string>;
}

class Survey {
  readonly #target: ContentTarget;
  readonly #digests: ReadonlySet<string>;
  readonly #options: NeedOptions;
  readonly #needed = new Set<string>();
  /** By the digest of what refers to them, those that are needed if it is; each refers to itself. */
  readonly #subjectsOf = new Map<string, Set<string>>();
  #indexes = 0;

  constructor(target: ContentTarget, digests: ReadonlySet<string>, options: NeedOptions) {
    this.#target = target;
    this.#digests = digests;
    this.#options = options;
  }

  async make(): Promise<Removable> {
    const { tags, roots, signal } = this.#options;
    const digests = [...this.#digests];
    await this.#each(digests, (digest, scope) => this.#noteReferrers(digest, scope), { signal });
    const attached = this.#attachedTags();
    const lookAt = async (names: readonly string[], way: Way): Promise<void> =>
      await this.#each(names, (name, scope) => this.#look(name, way, scope), { signal });
    const isOther = (name: string): boolean => !attached.has(name);
    const untagged = new Set([...tags].filter(isOther).flatMap(subjectByName));
    const others = [...roots.filter(isOther), ...untagged];
    await lookAt(others, this.#withSubjects(this.#needed));
    const about = roots.filter((root) => attached.has(root));
    await lookAt(about, this.#withoutSubjects(this.#needed));
    const pairs = about.flatMap((tag) =>
      [...(attached.get(tag) ?? [])].map((subject) => ({ tag, subject })),
    );
    const aboutBySubject = Map.groupBy(pairs, ({ subject }) => subject);
    const needs = new Map<string, ReadonlySet<string>>();
    const noteNeeds = async (digest: string, scope: ContentOptions): Promise<void> => {
      // What stays needs what is in it, and keeps what is attached to it.
      const kept = (aboutBySubject.get(digest) ?? []).map(({ tag }) => tag);
      const found = new Set<string>();
      const way = this.#withSubjects(found);
      for (const name of [digest, ...kept]) await this.#look(name, way, scope);
      needs.set(digest, found.difference(new Set([digest])));
    };
    await this.#each(digests, noteNeeds, { signal });
    for (const digest of this.#needed) {
      for (const other of needs.get(digest) ?? []) this.#needed.add(other); // It is visited in turn.
    }
    return inOrder(this.#digests.difference(this.#needed), needs);
  }

  async #each(
    names: readonly string[],
    act: (name: string, scope: ContentOptions) => Promise<void>,
    { signal }: ContentOptions,
  ): Promise<void> {
    await using group = new TaskGroup(signal);
    const slots = new Semaphore(maxQuestions);
    const actInTurn = async (name: string): Promise<void> => {
      using _slot = await slots.acquire(group);
      if (this.#needed.size < this.#digests.size) await act(name, { signal: group.signal });
    };
    await Promise.all(names.map((name) => group.run(() => actInTurn(name))));
  }

  /** Notes what refers to a manifest, and what refers to that in turn. */
  async #noteReferrers(digest: string, { signal }: ContentOptions): Promise<void> {
    const { tags } = this.#options;
    const found = new Set([digest]);
    let level: readonly string[] = [digest];
    for (let depth = 0; level.length > 0; depth++) {
      if (depth > maxLevels || found.size > maxReferrers) return void this.#needed.add(digest);
      const next = new Set<string>();
      for (const subject of level) {
        const listed = await this.#target.referrers(subject, { tags, signal });
        for (const each of listed) next.add(each.digest);
      }
      level = [...next.difference(found)];
      for (const referrer of level) found.add(referrer);
    }
    for (const referrer of found) {
      const subjects = this.#subjectsOf.get(referrer) ?? new Set();
      this.#subjectsOf.set(referrer, subjects.add(digest));
    }
  }

  /** Names tags that stay only for manifests of which it is asked whether they do, and for which. */
  #attachedTags(): ReadonlyMap<string, ReadonlySet<string>> {
    const found = new Map<string, ReadonlySet<string>>();
    for (const [digest, subjects] of this.#subjectsOf) {
      for (const tag of attachedTagsOf(digest)) found.set(tag, subjects);
    }
    return found;
  }

  #withSubjects(needed: Set<string>): Way {
    return { seen: new Set(), needed, keeps: (digest) => this.#subjectsOf.get(digest) ?? [] };
  }

  #withoutSubjects(needed: Set<string>): Way {
    const keeps = (digest: string): string[] => (this.#digests.has(digest) ? [digest] : []);
    return { seen: new Set(), needed, keeps };
  }

  async #look(name: string, way: Way, options: ContentOptions): Promise<void> {
    const named = await this.#target.find(name, options);
    if (named) await this.#walk(named, way, options);
  }

  async #walk({ digest, mediaType }: Named, way: Way, options: ContentOptions): Promise<void> {
    for (const kept of way.keeps(digest)) way.needed.add(kept);
    if (!isIndexType(mediaType) || way.seen.has(digest)) return;
    way.seen.add(digest);
    if (++this.#indexes > maxIndexes) return this.#needAll();
    const content = await this.#target.manifest(digest, options);
    const children = content ? childrenOf(content) : [];
    if (!children) return this.#needAll();
    for (const child of children) await this.#walk(child, way, options);
  }

  #needAll(): void {
    for (const digest of this.#digests) this.#needed.add(digest);
  }
}

/** Puts what needs others in front of them. Those that need one another are left out, with what they need. */
function inOrder(
  digests: ReadonlySet<string>,
  needs: ReadonlyMap<string, ReadonlySet<string>>,
): Removable {
  const order = new Map<string, ReadonlySet<string>>();
  const needsOf = (digest: string): ReadonlySet<string> => needs.get(digest) ?? new Set();
  for (let left = digests; ; left = left.difference(order)) {
    const free = left.difference(new Set([...left].flatMap((digest) => [...needsOf(digest)])));
    if (free.size === 0) return order;
    for (const digest of free) order.set(digest, needsOf(digest));
  }
}

/** Lists what a tag is about by its name: it may be there without a tag of its own. */
function subjectByName(tag: string): string[] {
  const [, hex] = /^sha256-([0-9a-f]{64})(?:\.[a-z]+)?$/.exec(tag) ?? [];
  return hex === undefined ? [] : [`sha256:${hex}`];
}

/** @returns `undefined` if it cannot be read. */
function childrenOf(content: ManifestContent): readonly Descriptor[] | undefined {
  try {
    const parsed = parseContent(content);
    return parsed.kind === "index" ? parsed.children : [];
  } catch (error) {
    if (!(error instanceof ManifestError)) throw error;
    return undefined;
  }
}
