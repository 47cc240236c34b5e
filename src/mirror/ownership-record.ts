import { hash } from "node:crypto";

import * as z from "zod/mini";

import { parseJson } from "#json/json.ts";
import { digestPattern, tagPattern } from "#oci/reference.ts";
import { ownershipTagPattern } from "./ownership-tag.ts";

/** The most bytes of a record. */
export const maxRecordBytes = 4 * 1_024 * 1_024;

/** About as many as fit into the bytes. What nobody recorded is never removed. */
const maxRecordedTags = 40_000;

/** Who wrote copies. */
export interface Owner {
  /** The uid of the namespace `kube-system`. */
  readonly cluster: string;
  readonly namespace: string;
  readonly mirror: string;
}

/** A tag that its owner writes. Without a digest it is not known yet what was written, if anything was. */
export interface RecordedTag {
  readonly digest?: string;
  /** Since when it is no longer asked for. */
  readonly unselectedSince?: Date;
  /** Whether it was about to be written anew: it names the digest, or what its owner wrote since. */
  readonly isMoving?: boolean;
}

export type RecordedTags = ReadonlyMap<string, RecordedTag>;

/** What somebody wrote into a repository, by tag. */
export interface OwnershipContent {
  readonly owner: Owner;
  readonly tags: RecordedTags;
}

/** A copy that is no longer asked for. */
export interface Leftover {
  readonly tag: string;
  readonly digest: string;
  readonly unselectedSince: Date;
}

/** What a run found. All are tags, `copied` and `unchanged` with what they name at the target. */
export interface RunFindings {
  readonly copied: ReadonlyMap<string, string>;
  readonly unchanged: ReadonlyMap<string, string>;
  readonly selected: ReadonlySet<string>;
  /** Whether `selected` is all that is asked for. */
  readonly isComplete: boolean;
}

const name = z.string().check(z.minLength(1), z.maxLength(253));

const schema = z.object({
  owner: z.object({ cluster: name, namespace: name, mirror: name }),
  tags: z.record(
    z.string().check(z.refine(isRecordable)),
    z.object({
      digest: z.exactOptional(z.string().check(z.regex(digestPattern))),
      unselectedSince: z.exactOptional(z.iso.datetime()),
      isMoving: z.exactOptional(z.boolean()),
    }),
  ),
});

/** Names the tag under which an owner's record is kept. */
export function ownershipTag({ cluster, namespace, mirror }: Owner): string {
  return `coral-mirror.${hash("sha256", JSON.stringify([cluster, namespace, mirror])).slice(0, 16)}`;
}

/** Parses a record, which anybody who may write to the repository may have written; `undefined` if it is none. */
export function parseRecord(bytes: Buffer): OwnershipContent | undefined {
  if (bytes.length > maxRecordBytes) return undefined;
  const { data } = schema.safeParse(parseJson(bytes.toString()));
  if (!data) return undefined;
  const tags = new Map<string, RecordedTag>();
  for (const [tag, { digest, unselectedSince, isMoving }] of Object.entries(data.tags)) {
    tags.set(tag, {
      ...(digest !== undefined && { digest }),
      ...(unselectedSince !== undefined && { unselectedSince: new Date(unselectedSince) }),
      ...(isMoving && { isMoving }),
    });
  }
  return { owner: data.owner, tags };
}

/** Formats a record; `undefined` if it is too large to be kept. The inverse of `parseRecord`. */
export function formatRecord({ owner, tags }: OwnershipContent): Buffer | undefined {
  if (tags.size > maxRecordedTags) return undefined;
  const { cluster, namespace, mirror } = owner;
  const sorted = [...tags].sort(([one], [other]) => (one < other ? -1 : 1));
  const bytes = Buffer.from(
    JSON.stringify({ owner: { cluster, namespace, mirror }, tags: Object.fromEntries(sorted) }),
  );
  return bytes.length <= maxRecordBytes ? bytes : undefined;
}

/**
 * Records tags that are about to be written: those that the target lacks, and those that are on record. Whoever
 * is killed before it is known what was written leaves a copy that is still its owner's.
 */
export function claimTags(recorded: RecordedTags, tags: Iterable<string>): RecordedTags {
  const claims = [...tags].filter(isRecordable).map((tag): [string, RecordedTag] => {
    const digest = recorded.get(tag)?.digest;
    return [tag, digest === undefined ? {} : { digest, isMoving: true }];
  });
  return new Map([...recorded, ...claims]);
}

/**
 * Records what a run did and found. A tag that is not on record stays so, whoever wrote it last; one that
 * names something else than was recorded, and that the run did not write, was moved by somebody: it is theirs.
 */
export function settleTags(
  recorded: RecordedTags,
  { copied, unchanged, selected, isComplete }: RunFindings,
  now: Date,
): RecordedTags {
  const settled = new Map<string, RecordedTag>();
  for (const [tag, { digest: known, unselectedSince, isMoving = false }] of recorded) {
    const found = unchanged.get(tag);
    const digest = copied.get(tag) ?? (isMoving ? (found ?? known) : (known ?? found));
    if (!copied.has(tag) && found !== undefined && found !== digest) continue;
    const isSelected = selected.has(tag);
    // Nobody came to see what was written for it, and nobody will.
    if (digest === undefined && isComplete && !isSelected) continue;
    const since = isSelected ? undefined : sinceWhen(unselectedSince, isComplete ? now : undefined);
    settled.set(tag, {
      ...(digest !== undefined && { digest }),
      ...(since && { unselectedSince: since }),
      ...(isMoving && !copied.has(tag) && found === undefined && { isMoving }),
    });
  }
  return settled;
}

/** Records that copies are gone, or somebody else's. */
export function forgetTags(
  recorded: RecordedTags,
  copies: Iterable<{ readonly tag: string; readonly digest: string }>,
): RecordedTags {
  const left = new Map(recorded);
  for (const { tag, digest } of copies) if (left.get(tag)?.digest === digest) left.delete(tag);
  return left;
}

/** Lists the copies that are no longer asked for, those that have been so for longest first. */
export function leftoversOf(recorded: RecordedTags, selected: ReadonlySet<string>): Leftover[] {
  const found: Leftover[] = [];
  for (const [tag, { digest, unselectedSince }] of recorded) {
    if (digest === undefined || !unselectedSince || selected.has(tag)) continue;
    found.push({ tag, digest, unselectedSince });
  }
  return found.sort(
    (one, other) =>
      one.unselectedSince.getTime() - other.unselectedSince.getTime() ||
      (one.tag < other.tag ? -1 : 1),
  );
}

/** A clock that was wrong once must not put it off for years. */
function sinceWhen(recorded: Date | undefined, now: Date | undefined): Date | undefined {
  if (!recorded || !now) return recorded ?? now;
  return recorded < now ? recorded : now;
}

/** Records are not recorded. `__proto__` is a tag, but nothing that JSON objects can be trusted with. */
function isRecordable(tag: string): boolean {
  return tagPattern.test(tag) && !ownershipTagPattern.test(tag) && tag !== "__proto__";
}
