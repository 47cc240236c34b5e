import type { ContentOptions, ContentTarget } from "#oci/content.ts";
import { tagPattern } from "#oci/reference.ts";
import { maxTags } from "./attached-tags.ts";
import { OwnershipError, readRecord } from "./ownership-artifact.ts";
import type { RecordedTags } from "./ownership-record.ts";
import { ownershipTagPattern } from "./ownership-tag.ts";

/** The most tags that are all looked at. */
const maxTagsToLookAt = 10_000;

/** The most owners of one repository. */
const maxOwners = 64;

/** What is known of a repository as a whole. */
export interface TagListing {
  /** Not there if they are too many to be looked at. */
  readonly tags: ReadonlySet<string> | undefined;
  /** Whether another owner wrote a tag, too, and still asks for it. */
  readonly isWanted: (tag: string) => boolean;
}

/**
 * Lists the tags of a repository, and which of them other owners want.
 *
 * @param options.ownTag - of the record that is not another's.
 * @returns `undefined` if there are too many tags or owners to know.
 * @throws what the target throws.
 */
export async function listTags(
  target: ContentTarget,
  { ownTag, signal }: ContentOptions & { readonly ownTag: string },
): Promise<TagListing | undefined> {
  const tags = new Set<string>();
  const records: string[] = [];
  let count = 0;
  for await (const tag of target.tags({ signal })) {
    if (++count > maxTags) return undefined;
    if (tags.size <= maxTagsToLookAt && tagPattern.test(tag)) tags.add(tag);
    if (ownershipTagPattern.test(tag) && tag !== ownTag) records.push(tag);
  }
  if (records.length > maxOwners) return undefined;
  const wanted = new Set<string>();
  for (const record of records) {
    for (const [tag, { unselectedSince }] of await tagsOnRecord(target, record, { signal })) {
      if (!unselectedSince) wanted.add(tag);
    }
  }
  return {
    tags: tags.size <= maxTagsToLookAt ? tags : undefined,
    isWanted: (tag) => wanted.has(tag),
  };
}

async function tagsOnRecord(
  target: ContentTarget,
  record: string,
  options: ContentOptions,
): Promise<RecordedTags> {
  try {
    return (await readRecord(target, record, options))?.content?.tags ?? new Map();
  } catch (error) {
    if (error instanceof OwnershipError) return new Map(); // It only looks like one.
    throw error;
  }
}
