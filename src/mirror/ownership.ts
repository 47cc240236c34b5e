import { isDeepStrictEqual } from "node:util";

import { Semaphore } from "#async/semaphore.ts";
import type { ContentOptions, ContentTarget } from "#oci/content.ts";
import { OwnershipError, readRecord, writeRecord } from "./ownership-artifact.ts";
import {
  claimTags,
  forgetTags,
  leftoversOf,
  ownershipTag,
  settleTags,
  type Leftover,
  type Owner,
  type RecordedTags,
  type RunFindings,
} from "./ownership-record.ts";

/**
 * The record of what somebody wrote into a repository, kept there: a small artifact under a tag of its own. It
 * says what may be removed. One instance is for one run.
 *
 * Two may write at once, and the last one wins, though each looks at what the other wrote before. What is lost
 * then does no harm. A tag that is not on record is never removed; one that is on record wrongly has to name
 * the digest there, which nobody but the owner wrote; and when it was last asked for is found again.
 *
 * ```ts
 * const ownership = await Ownership.read(target, owner, { signal });
 * await ownership.claim(["1.2"], { signal }); // Then write it.
 * ```
 */
export class Ownership {
  /** Under which the record is kept. */
  readonly tag: string;
  readonly #target: ContentTarget;
  readonly #owner: Owner;
  /** One change at a time. */
  readonly #turns = new Semaphore(1);
  /** Tags whose claims wait for their turn, and how many wait for each. */
  readonly #waiting = new Map<string, number>();
  /** By this run. */
  readonly #claimed = new Set<string>();
  /** Of the record's manifest. */
  #digest: string | undefined;
  #tags: RecordedTags = new Map();

  private constructor(target: ContentTarget, owner: Owner) {
    this.#target = target;
    this.#owner = owner;
    this.tag = ownershipTag(owner);
  }

  /**
   * Reads what is on record. A record that is damaged is as good as none.
   *
   * @throws {OwnershipError} if something else is kept where it should be.
   * @throws what the target throws, here as in every other method.
   */
  static async read(
    target: ContentTarget,
    owner: Owner,
    options: ContentOptions,
  ): Promise<Ownership> {
    const ownership = new Ownership(target, owner);
    await ownership.#read(options);
    return ownership;
  }

  /** What the owner wrote under a tag, as far as it is known. */
  digestOf(tag: string): string | undefined {
    return this.#tags.get(tag)?.digest;
  }

  /**
   * Records tags that the target lacks, or that are on record, before they are written. All that wait at the
   * same time are recorded in one write.
   *
   * @throws {OwnershipError} if there are too many.
   */
  async claim(tags: readonly string[], options: ContentOptions): Promise<void> {
    const wanted = tags.filter((tag) => !this.#claimed.has(tag));
    if (wanted.length === 0) return;
    for (const tag of wanted) this.#waiting.set(tag, (this.#waiting.get(tag) ?? 0) + 1);
    try {
      using _turn = await this.#turns.acquire(options);
      if (wanted.every((tag) => this.#claimed.has(tag))) return;
      const batch = [...this.#waiting.keys()];
      await this.#change((recorded) => claimTags(recorded, batch), options);
      for (const tag of batch) this.#claimed.add(tag);
    } finally {
      for (const tag of wanted) this.#giveUp(tag);
    }
  }

  /**
   * Records what a run did and found, if that is not on record.
   *
   * @returns copies that are no longer asked for, those that have been so for longest first.
   */
  async settle(
    findings: RunFindings,
    { now, signal }: ContentOptions & { readonly now: Date },
  ): Promise<readonly Leftover[]> {
    using _turn = await this.#turns.acquire({ signal });
    await this.#change(
      (recorded) => {
        const lost = this.#claimed.values().filter((tag) => !recorded.has(tag));
        return settleTags(claimTags(recorded, lost), findings, now);
      },
      { signal },
    );
    return leftoversOf(this.#tags, findings.selected);
  }

  /** Takes copies off the record that are gone, or somebody else's. */
  async forget(
    copies: readonly { readonly tag: string; readonly digest: string }[],
    options: ContentOptions,
  ): Promise<void> {
    if (copies.length === 0) return;
    using _turn = await this.#turns.acquire(options);
    for (const { tag } of copies) this.#claimed.delete(tag);
    await this.#change((recorded) => forgetTags(recorded, copies), options);
  }

  #giveUp(tag: string): void {
    const others = (this.#waiting.get(tag) ?? 1) - 1;
    if (others > 0) this.#waiting.set(tag, others);
    else this.#waiting.delete(tag);
  }

  /** Looks again, as another may have written, and writes what becomes of that if it differs. */
  async #change(
    merge: (recorded: RecordedTags) => RecordedTags,
    options: ContentOptions,
  ): Promise<void> {
    const there = await this.#target.find(this.tag, options);
    if (there?.digest !== this.#digest) await this.#read(options);
    const tags = merge(this.#tags);
    if (isDeepStrictEqual(tags, this.#tags)) return;
    const { digest } = await writeRecord(this.#target, { owner: this.#owner, tags }, options);
    this.#digest = digest;
    this.#tags = tags;
  }

  async #read(options: ContentOptions): Promise<void> {
    const stored = await readRecord(this.#target, this.tag, options);
    const { owner, tags } = stored?.content ?? { owner: this.#owner, tags: new Map() };
    if (!isDeepStrictEqual(owner, this.#owner)) {
      const reason = `its tag "${this.tag}" is another's record`;
      throw new OwnershipError("NOT_A_RECORD", this.#target.name, reason);
    }
    this.#digest = stored?.digest;
    this.#tags = tags;
  }
}
