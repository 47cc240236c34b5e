import type { ContentOptions, ContentTarget, Named } from "#oci/content.ts";

/** As many as registries give on one page: more pages cost more than they tell. */
const maxListed = 1_000;

/**
 * Knows which tags a target repository has, so that many new ones cost one question and not one each. It is
 * asked for its list when it lacks a tag.
 *
 * Tags that others write meanwhile are not seen: those are copied as if they were new.
 */
export class TargetTags {
  readonly #target: ContentTarget;
  readonly #signal: AbortSignal;
  #listed: Promise<ReadonlySet<string> | undefined> | undefined;
  #known: ReadonlySet<string> | undefined;
  #isNew = false;

  /** @param options.signal - the run's: what several tags wait for does not end with one of them. */
  constructor(target: ContentTarget, { signal }: ContentOptions) {
    this.#target = target;
    this.#signal = signal;
  }

  /** Whether it had no tags when the run began, so that nothing is likely to be there. */
  get isNew(): boolean {
    return this.#isNew;
  }

  /** The tags that it had when the run began, as soon as they are listed; none if they are many. */
  get known(): ReadonlySet<string> | undefined {
    return this.#known;
  }

  /** Finds what a tag names. */
  async find(tag: string, options: ContentOptions): Promise<Named | undefined> {
    const listed = await this.#listed;
    if (listed && !listed.has(tag)) return undefined;
    const named = await this.#target.find(tag, options);
    // Nothing is written before the list is there: what is in it was not written by this run.
    if (!named) await (this.#listed ??= this.#list());
    return named;
  }

  /** @returns none if it has many, or may not be listed. */
  async #list(): Promise<ReadonlySet<string> | undefined> {
    const signal = this.#signal;
    const found = new Set<string>();
    try {
      for await (const tag of this.#target.tags({ signal })) {
        if (found.add(tag).size > maxListed) return undefined;
      }
    } catch {
      signal.throwIfAborted();
      return undefined;
    }
    this.#isNew = found.size === 0;
    this.#known = found;
    return found;
  }
}
