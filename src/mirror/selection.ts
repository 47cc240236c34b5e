import { filterTags, tagFilterProblems, type TagFilter } from "#api/v1/tag-filter.ts";
import { tagPattern } from "#oci/reference.ts";
import { attachedTagPattern } from "./referrer-copy.ts";

/** Which tags and digests of a repository to copy, as `spec.repositories[]` says it. */
export interface TagSelection {
  readonly tags?: readonly string[];
  readonly digests?: readonly string[];
  readonly listSelection?: "listed" | "all";
  readonly filter?: TagFilter;
}

/** The largest repositories that are known have some ten thousand. */
const maxTags = 100_000;

/** What a filter may take of the processor, in milliseconds. */
const filterBudgetMs = 10_000;

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

/**
 * Lists the tags and digests to copy, each once: those that are listed, with neither of them `latest`; or
 * of all that the source has those that the filter lets through, newest first.
 *
 * Tags that belong to other manifests, as cosign's signatures do, are none of "all": they are copied with
 * what they belong to.
 *
 * @param listTags - asked only for `all`.
 * @throws {SelectionError}
 * @throws {FilterTooSlowError}
 */
export async function selectReferences(
  selection: TagSelection,
  listTags: () => AsyncIterable<string>,
  { signal }: { signal: AbortSignal },
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
  for await (const tag of listTags()) {
    if (!tagPattern.test(tag) || attachedTagPattern.test(tag)) continue;
    found.add(tag);
    if (found.size > maxTags) {
      throw new SelectionError("TOO_MANY_TAGS", `The repository has more than ${maxTags} tags`);
    }
  }
  return filterTags(filter, [...found], { budgetMs: filterBudgetMs, signal });
}
