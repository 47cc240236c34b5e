import { compileGlob } from "#admission/facts/glob.ts";
import { labelPrefix } from "#api/v1/labels.ts";
import { isJsonObject } from "#json/json.ts";

const injectAnnotation = `${labelPrefix}inject`;
const includeAnnotations = [`${labelPrefix}include`, `${labelPrefix}included`];
const excludeAnnotations = [`${labelPrefix}exclude`, `${labelPrefix}excluded`];

/** What people write on pods, and on the workloads that make them, for Coral to read. */
export const coralAnnotations: readonly string[] = [
  injectAnnotation,
  ...includeAnnotations,
  ...excludeAnnotations,
];

/** What Coral writes on pods that it has changed, for people. It never reads it for a decision. */
export const injectedAnnotation = `${labelPrefix}injected`;

/** What the author of a pod asks for. */
export interface Wishes {
  /** Whether there is the annotation that asks, whatever its words. */
  readonly isAsking: boolean;
  readonly pullPolicy: "IfNotPresent" | "Never" | undefined;
  readonly nodes: "Preferred" | "Required" | undefined;
  /** Whether they are about the container or image volume of this name. */
  selectsContainer(name: string): boolean;
  /** What was not understood, for the author. */
  readonly warnings: readonly string[];
}

type Word = Pick<Wishes, "pullPolicy"> | Pick<Wishes, "nodes">;

const words: ReadonlyMap<string, Word> = new Map<string, Word>([
  ["pull-policy", { pullPolicy: "Never" }],
  ["pull-policy=Never", { pullPolicy: "Never" }],
  ["pull-policy=IfNotPresent", { pullPolicy: "IfNotPresent" }],
  ["selectors", { nodes: "Required" }],
  ["selectors=required", { nodes: "Required" }],
  ["selectors=preferred", { nodes: "Preferred" }],
]);

/** Globs cost time for each container; names without a star do not. */
const maxGlobs = 64;

/** A glob with more has more letters than a name of a container can. */
const maxGlobChars = 127;

/** Enough to see what is meant; each is a line on somebody's screen. */
const maxUnknownWords = 5;

/**
 * Reads Coral's annotations on a pod. Of words that contradict one another the last counts. Of names,
 * those to include go before those to exclude.
 */
export function parseWishes(annotations: unknown): Wishes {
  const texts = isJsonObject(annotations) ? annotations : {};
  const inject = texts[injectAnnotation];
  const found = partsOf(inject);
  const known = found.flatMap((word) => words.get(word) ?? []);
  const { pullPolicy, nodes }: Partial<Wishes> = Object.assign({}, ...known);
  const include = namesOf(includeAnnotations.flatMap((key) => partsOf(texts[key])));
  const exclude = namesOf(excludeAnnotations.flatMap((key) => partsOf(texts[key])));
  const isTooMuch = include.isTooMuch || exclude.isTooMuch;
  return {
    isAsking: typeof inject === "string",
    pullPolicy,
    nodes,
    // Whom too many globs would leave out is not known, so nobody is changed.
    selectsContainer: (name) =>
      !isTooMuch && (include.isEmpty ? !exclude.has(name) : include.has(name)),
    warnings: [
      ...wordWarnings(found),
      ...(isTooMuch
        ? [
            `annotations ${labelPrefix}include and exclude have more than ${maxGlobs} globs: no container is changed`,
          ]
        : []),
    ],
  };
}

function wordWarnings(found: readonly string[]): string[] {
  const unknown = found.filter((word) => !words.has(word));
  const left = unknown.length - maxUnknownWords;
  return [
    ...unknown.slice(0, maxUnknownWords).map(wordWarning),
    ...(left > 0 ? [`annotation ${injectAnnotation}: ${left} more words are not known`] : []),
  ];
}

function wordWarning(word: string): string {
  if (word === "redirect") {
    return `annotation ${injectAnnotation}: "redirect" is not supported yet`;
  }
  const shown = word.length > 40 ? `${word.slice(0, 40)}…` : word;
  return `annotation ${injectAnnotation}: ${JSON.stringify(shown)} is not known; it takes pull-policy, pull-policy=IfNotPresent, selectors and selectors=preferred`;
}

interface Names {
  readonly isEmpty: boolean;
  readonly isTooMuch: boolean;
  has(name: string): boolean;
}

function namesOf(parts: readonly string[]): Names {
  const names = new Set(parts.filter((part) => !part.includes("*")));
  const globs = parts.filter((part) => part.includes("*")).map((glob) => glob.replace(/\*+/g, "*"));
  const isTooMuch = globs.length > maxGlobs;
  const matchers = isTooMuch
    ? []
    : globs.filter((glob) => glob.length <= maxGlobChars).map(compileGlob);
  return {
    isEmpty: parts.length === 0,
    isTooMuch,
    has: (name) => names.has(name) || matchers.some((matches) => matches(name)),
  };
}

/** What stands between commas. */
function partsOf(value: unknown): string[] {
  if (typeof value !== "string") return [];
  return value.split(",").flatMap((part) => part.trim() || []);
}
