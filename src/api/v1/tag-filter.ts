import { setImmediate } from "node:timers/promises";

import { RE2JS, RE2JSSyntaxException } from "re2js";
import { Range, SemVer } from "semver";

import type { Frozen } from "./schema.ts";

/** Which tags of a repository to take, as `spec.repositories[].filter` says it. */
export type TagFilter = Frozen<{
  include?: string[];
  exclude?: string[];
  semver?: string;
  newest?: number;
}>;

/** A part of a filter that means nothing. */
export interface TagFilterProblem {
  /** The field, like `.include[0]`. */
  readonly path: string;
  readonly value: string;
  /** What was expected, to stand after the value: `must …`. */
  readonly message: string;
}

/** How long `filterTags` works before it lets others have their turn, in milliseconds. */
const turnMs = 20;

/** A filter took longer than it may: it repeats too much, or there are too many tags. */
export class FilterTooSlowError extends Error {
  override readonly name = "FilterTooSlowError";
  readonly code = "FILTER_TOO_SLOW";
  readonly retryable = false;
}

/**
 * Filters the tags that a registry lists: takes those that match one of `include` (if there are any)
 * and none of `exclude`, each as a whole, and that are versions in the range `semver`; and of these
 * the `newest`.
 *
 * Newest first is the order of the result, with `newest` and without. If all of them are versions,
 * that is the order of versions (semver.org §11); else digits count as numbers, so that `r10` comes
 * before `r9`. A version has three parts and perhaps a `v` before them: `1.2` is none. As in npm, a
 * range takes a pre-release, like `1.2.3-alpine`, only if it names one of the same three parts.
 *
 * Expressions are in RE2's syntax, and take linear time whatever they say; yet that is a long time for
 * some, so that others have their turn in between. A filter that makes no sense takes nothing, so that
 * a slip does not fill disks; `tagFilterProblems` tells about it.
 *
 * @param options.budgetMs - the most time of the processor that it may take.
 * @throws {FilterTooSlowError} if that is not enough.
 */
export async function filterTags(
  filter: TagFilter,
  tags: readonly string[],
  { budgetMs, signal }: { budgetMs: number; signal: AbortSignal },
): Promise<string[]> {
  if (tagFilterProblems(filter).length > 0) return [];
  const { newest = Infinity } = filter;
  const isTaken = matcherOf(filter);
  const taken: RankedTag[] = [];
  let usedMs = 0;
  let turnStartMs = performance.now();
  let turnStart = process.threadCpuUsage();
  for (const tag of tags) {
    if (isTaken(tag)) taken.push(rankedTag(tag));
    if (performance.now() - turnStartMs < turnMs) continue;
    const { user, system } = process.threadCpuUsage(turnStart); // In microseconds.
    usedMs += (user + system) / 1_000;
    if (usedMs >= budgetMs) {
      throw new FilterTooSlowError(
        `The filter took more than ${budgetMs} ms for ${tags.length} tags`,
      );
    }
    await setImmediate(undefined, { signal });
    turnStartMs = performance.now();
    turnStart = process.threadCpuUsage();
  }
  return newestFirst(taken).slice(0, newest);
}

function matcherOf({ include = [], exclude = [], semver }: TagFilter): (tag: string) => boolean {
  const wanted = include.map(compile);
  const unwanted = exclude.map(compile);
  const range = semver === undefined ? undefined : new Range(semver);
  return (tag) => {
    if (wanted.length > 0 && !wanted.some((pattern) => pattern.matches(tag))) return false;
    if (unwanted.some((pattern) => pattern.matches(tag))) return false;
    if (range === undefined) return true;
    const version = parseVersion(tag);
    return version !== undefined && range.test(version);
  };
}

/** Lists what is wrong with a filter. What the API server itself refuses is not looked at. */
export function tagFilterProblems({
  include = [],
  exclude = [],
  semver,
}: TagFilter): TagFilterProblem[] {
  const patterns = Object.entries({ include, exclude }).flatMap(([field, list]) =>
    list.map((value, index) => ({ path: `.${field}[${index}]`, value })),
  );
  const problems = patterns.flatMap(({ path, value }) => {
    const message = patternProblem(value);
    return message === undefined ? [] : [{ path, value, message }];
  });
  const isFine = semver === undefined || (semver.length <= maxPatternChars && isRange(semver));
  if (isFine) return problems;
  const message = 'must be a range of versions, like ">=1.2 <2" or "1.x"';
  return [...problems, { path: ".semver", value: semver, message }];
}

/**
 * RE2 allows repetitions up to 1,000, which takes 10 ms to compile: too long where everybody waits.
 * A pattern that names fifty alternatives is well below this.
 */
const maxPatternSteps = 500;

/** Asked although the API server asks as well: what a cluster stored may be older than its rule. */
const maxPatternChars = 256;

function patternProblem(value: string): string | undefined {
  if (value.length > maxPatternChars) return `must have at most ${maxPatternChars} characters`;
  // Before it is compiled, which is what takes the time.
  if (repetitionsIn(value) > maxPatternSteps) return "must be simpler: it repeats too much";
  try {
    const isSmall = compile(value).programSize() <= maxPatternSteps;
    return isSmall ? undefined : "must be simpler: it repeats too much";
  } catch (error) {
    if (!(error instanceof RE2JSSyntaxException)) throw error;
    return `must be a regular expression in RE2's syntax (${error.getDescription()})`;
  }
}

/** At most how often the innermost part is repeated, if each count stands within the one before. */
function repetitionsIn(pattern: string): number {
  const counts = pattern.matchAll(/\{(\d+)(?:,(\d*))?\}/g);
  return counts.reduce((product, [, min, max]) => product * Math.max(1, Number(max || min)), 1);
}

function compile(pattern: string): RE2JS {
  return RE2JS.compile(pattern);
}

function isRange(text: string): boolean {
  try {
    return new Range(text).range !== undefined;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return false;
  }
}

function parseVersion(tag: string): SemVer | undefined {
  try {
    return new SemVer(tag);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return undefined;
  }
}

/** A tag, taken apart once for all comparisons. */
interface RankedTag {
  readonly tag: string;
  readonly version: SemVer | undefined;
  /** Runs of digits, and what stands between them. */
  readonly parts: readonly string[];
}

function rankedTag(tag: string): RankedTag {
  return { tag, version: parseVersion(tag), parts: partsOf(tag) };
}

function newestFirst(tags: readonly RankedTag[]): string[] {
  const isVersioned = tags.every(({ version }) => version !== undefined);
  const sorted = tags.toSorted((a, b) => {
    const order =
      isVersioned && a.version && b.version
        ? b.version.compare(a.version)
        : compareNaturally(b.parts, a.parts);
    return order || compareText(b.tag, a.tag);
  });
  return sorted.map(({ tag }) => tag);
}

/** Compares texts, taking each run of digits in them for one number, of any length. */
function compareNaturally(left: readonly string[], right: readonly string[]): number {
  for (let index = 0; index < Math.min(left.length, right.length); index++) {
    const order = comparePart(left[index] ?? "", right[index] ?? "");
    if (order !== 0) return order;
  }
  return left.length - right.length;
}

function partsOf(text: string): string[] {
  return text.match(/[0-9]+|[^0-9]+/g) ?? [];
}

function comparePart(a: string, b: string): number {
  const isDigits = /^[0-9]/;
  if (!isDigits.test(a) || !isDigits.test(b)) return compareText(a, b);
  const [left, right] = [a.replace(/^0+/, ""), b.replace(/^0+/, "")];
  return left.length - right.length || compareText(left, right);
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
