import type { ContentOptions, ContentTarget } from "#oci/content.ts";
import { digestPattern } from "#oci/reference.ts";
import { attachedTagsOf, findRemovable, type Removable } from "./needed-digests.ts";
import type { Ownership } from "./ownership.ts";
import { listTags, type TagListing } from "./tag-listing.ts";

/** Of nothing: whether a registry would remove it tells whether it removes digests, before all tags are looked at. */
const noDigest = `sha256:${"0".repeat(64)}`;

/** A tag that may be removed while it names a digest. */
export interface Copy {
  readonly tag: string;
  readonly digest: string;
}

/**
 * Why a copy is still there.
 *
 * - `NOT_RECORDED`: the record does not say that it was written with that digest.
 * - `SELECTED`: it is asked for.
 * - `MOVED`: its tag names something else, which is somebody else's.
 * - `WANTED`: another owner wrote it, too, and still asks for it.
 * - `NEEDED`: the registry removes nothing but digests, and something else needs this one.
 * - `TOO_MANY`: there are too many tags or owners to know.
 * - `REFUSED`: the registry does not remove it, or not for this login.
 */
export type KeptReason =
  | "NOT_RECORDED"
  | "SELECTED"
  | "MOVED"
  | "WANTED"
  | "NEEDED"
  | "TOO_MANY"
  | "REFUSED";

export interface RemovalOptions extends ContentOptions {
  readonly ownership: Pick<Ownership, "tag" | "digestOf" | "forget">;
  /** What is asked for now: tags, and digests if there are any. */
  readonly selected: ReadonlySet<string>;
}

export interface RemovalResult {
  /** The approved tags that are gone, those included that were gone before. */
  readonly removed: readonly string[];
  /** Whether something could be removed, but the registry, or the size of the repository, lets nothing go. */
  readonly isUnsupported: boolean;
  /** By tag. */
  readonly kept: ReadonlyMap<string, KeptReason>;
}

/**
 * Removes copies that their owner wrote, that still are what was written, and that nobody asks for any more; by
 * tag, where a registry can do that (distribution-spec, "Deleting Tags"), else by digest unless something else
 * needs it. What belongs to a removed manifest by its name, like a signature, goes with it if it is on record.
 *
 * A copy is taken off the record after it is gone: whoever is killed in between leaves a record of nothing. What
 * others write in the moment between the last look and the removal is not seen: registries have no conditions.
 *
 * @throws what the target throws. What was removed by then is found to be gone the next time.
 */
export async function removeCopies(
  target: ContentTarget,
  approved: readonly Copy[],
  options: RemovalOptions,
): Promise<RemovalResult> {
  const removal = new Removal(target, options);
  await removal.remove(approved);
  return removal.result(approved);
}

type Answer = "deleted" | "unsupported" | "refused";

class Removal {
  readonly #target: ContentTarget;
  readonly #options: RemovalOptions;
  readonly #gone = new Map<string, Copy>();
  readonly #kept = new Map<string, KeptReason>();
  /** What is to be taken off the record. */
  readonly #forgotten: Copy[] = [];
  #removesTags = true;
  #hasDeleted = false;
  #isRefused = false;

  constructor(target: ContentTarget, options: RemovalOptions) {
    this.#target = target;
    this.#options = options;
  }

  result(approved: readonly Copy[]): RemovalResult {
    const tags = new Set(approved.map(({ tag }) => tag));
    return {
      removed: [...tags].filter((tag) => this.#gone.has(tag)),
      isUnsupported: this.#isRefused && !this.#hasDeleted,
      kept: this.#kept,
    };
  }

  async remove(approved: readonly Copy[]): Promise<void> {
    const { ownership, signal } = this.#options;
    const ours = approved.filter((copy) => this.#isOurs(copy));
    if (ours.length === 0) return;
    const listing = await listTags(this.#target, { ownTag: ownership.tag, signal });
    if (!listing) return this.#keepAll(ours, "TOO_MANY");
    await this.#removeFrom(listing, ours);
    await this.#removeFrom(listing, await this.#attachedToGone(listing));
    await ownership.forget(this.#forgotten, { signal });
  }

  #isOurs({ tag, digest }: Copy): boolean {
    const { ownership, selected } = this.#options;
    const isRecorded = ownership.digestOf(tag) === digest;
    if (!isRecorded) this.#kept.set(tag, "NOT_RECORDED");
    else if (selected.has(tag)) this.#kept.set(tag, "SELECTED");
    return isRecorded && !selected.has(tag);
  }

  async #removeFrom(listing: TagListing, copies: readonly Copy[]): Promise<void> {
    const left: Copy[] = [];
    for (const copy of copies) {
      if (listing.isWanted(copy.tag)) {
        this.#keep(copy, "WANTED");
        continue;
      }
      if ((await this.#isThere(copy)) && !(await this.#removeTag(copy))) left.push(copy);
    }
    if (left.length > 0) await this.#removeDigests(listing, left);
  }

  /** @returns whether its tag still names its digest. */
  async #isThere(copy: Copy): Promise<boolean> {
    const { signal } = this.#options;
    const named = await this.#target.find(copy.tag, { signal });
    if (named?.digest === copy.digest) return true;
    if (named) {
      this.#keep(copy, "MOVED");
      this.#forgotten.push(copy);
    } else this.#note(copy);
    return false;
  }

  /** @returns whether that can be done here: otherwise its digest may be. */
  async #removeTag(copy: Copy): Promise<boolean> {
    if (!this.#removesTags) return false;
    const answer = await this.#delete(copy.tag);
    this.#removesTags = answer !== "unsupported";
    if (answer === "deleted") this.#note(copy);
    if (answer === "refused") this.#refuse([copy], "REFUSED");
    return this.#removesTags;
  }

  async #removeDigests({ tags }: TagListing, copies: readonly Copy[]): Promise<void> {
    if ((await this.#ask(noDigest)) !== "deleted") return this.#refuse(copies, "REFUSED");
    if (!tags) return this.#refuse(copies, "TOO_MANY");
    const groups = Map.groupBy(copies, ({ digest }) => digest);
    const removable = await this.#removable(tags, copies);
    const needed = new Set(groups.keys()).difference(removable);
    for (const [digest, needs] of removable) {
      const isGone = !needed.has(digest) && (await this.#removeDigest(digest, groups.get(digest)));
      if (!isGone) for (const each of needs) needed.add(each);
    }
    for (const digest of needed) this.#keepAll(groups.get(digest) ?? [], "NEEDED");
  }

  /** @returns whether it is gone. */
  async #removeDigest(digest: string, copies: readonly Copy[] = []): Promise<boolean> {
    const isGone = (await this.#delete(digest)) === "deleted";
    if (!isGone) this.#refuse(copies, "REFUSED");
    else for (const copy of copies) this.#note(copy);
    return isGone;
  }

  /** Looks first at tags that are likely to name one of the digests. */
  async #removable(tags: ReadonlySet<string>, going: readonly Copy[]): Promise<Removable> {
    const { selected, ownership, signal } = this.#options;
    const digests = new Set(going.map(({ digest }) => digest));
    const goingTags = new Set(going.map(({ tag }) => tag));
    const staying = [...tags].filter((tag) => !goingTags.has(tag) && !this.#gone.has(tag));
    const isLikely = (tag: string): boolean => digests.has(ownership.digestOf(tag) ?? "");
    const roots = [
      ...[...selected].filter((name) => digestPattern.test(name)),
      ...staying.filter(isLikely),
      ...staying.filter((tag) => !isLikely(tag)),
    ];
    return await findRemovable(this.#target, digests, { tags, roots, signal });
  }

  /** Lists what belongs to manifests that are gone, or that no tag needs any more. */
  async #attachedToGone({ tags }: TagListing): Promise<readonly Copy[]> {
    const gone = [...this.#gone.values()].filter(
      ({ digest }) => this.#attachedTo(digest).length > 0,
    );
    if (gone.length === 0 || !tags) return [];
    const digests = await this.#removable(tags, gone);
    return [...digests.keys()].flatMap((digest) => this.#attachedTo(digest));
  }

  #attachedTo(digest: string): Copy[] {
    const { ownership, selected } = this.#options;
    return attachedTagsOf(digest).flatMap((tag) => {
      const recorded = ownership.digestOf(tag);
      const isLeft = recorded !== undefined && !selected.has(tag) && !this.#gone.has(tag);
      return isLeft ? { tag, digest: recorded } : [];
    });
  }

  async #delete(tagOrDigest: string): Promise<Answer> {
    const answer = await this.#ask(tagOrDigest);
    this.#hasDeleted ||= answer === "deleted";
    return answer;
  }

  /** @returns `deleted` also if it was not there. */
  async #ask(tagOrDigest: string): Promise<Answer> {
    const { signal } = this.#options;
    try {
      const answer = await this.#target.deleteManifest(tagOrDigest, { signal });
      return answer === "absent" ? "deleted" : answer;
    } catch (error) {
      signal.throwIfAborted();
      // One that is protected must not keep the others from being removed.
      const isRefusal = error instanceof Error && "retryable" in error && error.retryable === false;
      if (isRefusal) return "refused";
      throw error;
    }
  }

  #note(copy: Copy): void {
    this.#gone.set(copy.tag, copy);
    this.#kept.delete(copy.tag); // It may have gone along with another.
    this.#forgotten.push(copy);
  }

  #keep({ tag }: Copy, reason: KeptReason): void {
    this.#kept.set(tag, reason);
  }

  #keepAll(copies: readonly Copy[], reason: KeptReason): void {
    for (const copy of copies) this.#keep(copy, reason);
  }

  #refuse(copies: readonly Copy[], reason: "REFUSED" | "TOO_MANY"): void {
    this.#isRefused = true;
    this.#keepAll(copies, reason);
  }
}
