import { filterTags, tagFilterProblems, type TagFilter } from "#api/v1/tag-filter.ts";
import { Semaphore } from "#async/semaphore.ts";
import { TaskGroup } from "#async/task-group.ts";
import type { ContentSource } from "#oci/content.ts";
import { isIndexType } from "#oci/manifest.ts";
import { tagPattern } from "#oci/reference.ts";
import { cosignTagPattern, fallbackTagPattern, maxTags } from "./attached-tags.ts";
import { ownershipTagPattern } from "./ownership-tag.ts";

/** Which tags and digests of a repository to copy, as `spec.repositories[]` says it. */
export interface TagSelection {
  readonly tags?: readonly string[];
  readonly digests?: readonly string[];
  readonly listSelection?: "listed" | "all";
  readonly filter?: TagFilter;
}

/** What a filter may take of the processor, in milliseconds. */
const filterBudgetMs = 10_000;

/** How many tags are looked at at the same time whether they are lists of referrers. */
const maxFinds = 8;

/** A selection cannot be worked out. */
export class SelectionError extends Error {
  override readonly name = "SelectionError";
  readonly code: "INVALID_FILTER" | "TOO_MANY_TAGS";
  readonly retryable = false;

  constructor(code: SelectionError["code"], message: string) {
    super(message);
    this.code = code;
  }
}

interface SelectionOptions {
  readonly signal: AbortSignal;
  /** Tells what a tag names, where its name does not say whether it is a list of referrers. */
  readonly find?: ContentSource["find"];
}

/**
 * Lists the tags and digests to copy, each once: those that are listed, with neither of them `latest`; or
 * of all that the source has those that the filter lets through, newest first.
 *
 * Tags that belong to other manifests are none of "all": cosign's, and indexes that list referrers. They are
 * copied with what they belong to. Nor are Coral's records of what it wrote.
 *
 * @param listTags - asked only for `all`.
 * @throws {SelectionError}
 * @throws {FilterTooSlowError}
 */
export async function selectReferences(
  selection: TagSelection,
  listTags: () => AsyncIterable<string>,
  { signal, find }: SelectionOptions,
): Promise<string[]> {
  const { tags = [], digests = [], listSelection = "listed", filter = {} } = selection;
  if (listSelection === "listed") {
    const listed = [...new Set([...tags, ...digests])];
    return listed.length > 0 ? listed : ["latest"];
  }
  const [problem] = tagFilterProblems(filter);
  if (problem) {
    const { path, value, message } = problem;
    throw new SelectionError("INVALID_FILTER", `filter${path} "${value}" ${message}`);
  }
  const found = new Set<string>();
  let count = 0;
  for await (const tag of listTags()) {
    if (++count > maxTags) {
      throw new SelectionError("TOO_MANY_TAGS", `The repository has more than ${maxTags} tags`);
    }
    if (tagPattern.test(tag) && !isNoImage(tag)) found.add(tag);
  }
  const budget = { budgetMs: filterBudgetMs, signal };
  const unsure = [...found].filter((tag) => fallbackTagPattern.test(tag));
  if (find && unsure.length > 0) {
    const wanted = await filterTags({ ...filter, newest: unsure.length }, unsure, budget);
    for (const tag of await referrerListsIn(wanted, find, signal)) found.delete(tag);
  }
  return filterTags(filter, [...found], budget);
}

function isNoImage(tag: string): boolean {
  return cosignTagPattern.test(tag) || ownershipTagPattern.test(tag);
}

async function referrerListsIn(
  tags: readonly string[],
  find: ContentSource["find"],
  signal: AbortSignal,
): Promise<string[]> {
  const slots = new Semaphore(maxFinds);
  await using group = new TaskGroup(signal);
  const isList = async (tag: string): Promise<boolean> => {
    using _slot = await slots.acquire(group);
    return isIndexType((await find(tag, group))?.mediaType ?? "");
  };
  const answers = await Promise.all(tags.map((tag) => group.run(() => isList(tag))));
  return tags.filter((_, place) => answers[place]);
}
