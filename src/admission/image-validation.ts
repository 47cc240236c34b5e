import type { Image } from "#api/v1/image.ts";
import { referencesOf } from "#api/v1/references.ts";
import { selectorProblems } from "#api/v1/selector.ts";
import { tagFilterProblems } from "#api/v1/tag-filter.ts";
import { formatReference, InvalidReferenceError, parseRepository } from "#oci/reference.ts";
import { imageWarnings } from "./image-warnings.ts";

/** Something that keeps an object out. */
export interface Fault {
  readonly kind: "invalid" | "duplicate";
  /** The field, like `spec.repositories[0].tags[1]`. */
  readonly path: string;
  /** What stands there. */
  readonly value: string;
  /** What was expected, to stand after the value: `must …`. */
  readonly message: string;
}

/** What admission says of an Image. */
export interface Verdict {
  /** All that keeps it out, at once. None: it is let in. */
  readonly faults: readonly Fault[];
  /** What its author may not have meant. */
  readonly warnings: readonly string[];
}

/**
 * Validates an Image that has passed its schema and rules, for the API server asks webhooks last:
 * what is wrong only once names are spelled out, and what no rule can say.
 *
 * @param previous - what an update replaces. Faults and warnings that it had are not told again, so
 *   that an Image from before a rule can still be changed, and be let go of.
 */
export function validateImage(image: Image, previous?: Image): Verdict {
  const faults = faultsOf(image);
  const warnings = imageWarnings(image);
  if (!previous) return { faults, warnings };
  const known = new Set(imageWarnings(previous));
  return {
    faults: without(faults, faultsOf(previous)),
    warnings: warnings.filter((warning) => !known.has(warning)),
  };
}

function faultsOf(image: Image): Fault[] {
  return [
    ...selectorFaults(image),
    ...referencesOf(image).problems.map((problem) => ({ kind: "invalid" as const, ...problem })),
    ...duplicates(image),
    ...filterFaults(image),
    ...secretFaults(image),
  ];
}

/** Leaves out as many faults of a kind as there were before, wherever in a list they now stand. */
function without(faults: readonly Fault[], before: readonly Fault[]): Fault[] {
  const known = new Map<string, number>();
  for (const fault of before) known.set(identityOf(fault), (known.get(identityOf(fault)) ?? 0) + 1);
  return faults.filter((fault) => {
    const left = known.get(identityOf(fault)) ?? 0;
    known.set(identityOf(fault), left - 1);
    return left <= 0;
  });
}

function identityOf({ kind, path, value }: Fault): string {
  return JSON.stringify([kind, path.replaceAll(/\[\d+\]/g, "[]"), value]);
}

function selectorFaults({ spec: { selector } }: Image): Fault[] {
  return selectorProblems(selector).map((problem) => {
    const [, index = "", field = "", message = ""] =
      /^\[(\d+)\]\.(\w+): (.*)$/s.exec(problem) ?? [];
    const { key, operator, values = [] } = selector[Number(index)] ?? {};
    const value = field === "key" ? key : field === "operator" ? operator : values.join(",");
    return {
      kind: "invalid",
      path: `spec.selector[${index}].${field}`,
      value: value ?? "",
      message,
    };
  });
}

/** Images that are asked for twice, under names that only look different. */
function duplicates(image: Image): Fault[] {
  const places = new Map<string, string>();
  return namedReferences(image).flatMap(({ path, value, reference }) => {
    const first = places.get(reference);
    if (first === undefined) places.set(reference, path);
    if (first === undefined) return [];
    const message = `must not ask for ${reference} again, as ${first} does`;
    return [{ kind: "duplicate" as const, path, value, message }];
  });
}

function namedReferences({ spec }: Image): { path: string; value: string; reference: string }[] {
  return spec.repositories.flatMap(({ name, tags = [], digests = [], listSelection }, index) => {
    const repository = listSelection === "all" ? undefined : parsed(name);
    if (!repository) return [];
    const path = `spec.repositories[${index}]`;
    const place = (
      field: string,
      value: string,
      version: { tag: string } | { digest: string },
    ) => ({
      path: path + field,
      value,
      reference: formatReference({ ...repository, ...version }),
    });
    if (tags.length + digests.length === 0) return [place(".name", name, { tag: "latest" })];
    return [
      ...tags.map((tag, at) => place(`.tags[${at}]`, tag, { tag })),
      ...digests.map((digest, at) => place(`.digests[${at}]`, digest, { digest })),
    ];
  });
}

function parsed(name: string): ReturnType<typeof parseRepository> | undefined {
  try {
    return parseRepository(name);
  } catch (error) {
    if (!(error instanceof InvalidReferenceError)) throw error;
    return undefined; // Told as what it is, elsewhere.
  }
}

/** Each may take milliseconds to check, while everybody else waits. */
const maxExpressions = 64;

function filterFaults({ spec: { repositories } }: Image): Fault[] {
  const expressions = repositories.flatMap(({ filter: { include = [], exclude = [] } = {} }) => [
    ...include,
    ...exclude,
  ]);
  if (expressions.length > maxExpressions) {
    const message = `must have at most ${maxExpressions} regular expressions in all filters together`;
    const value = `${expressions.length} expressions`;
    return [{ kind: "invalid", path: "spec.repositories", value, message }];
  }
  return repositories.flatMap(({ filter = {} }, index) =>
    tagFilterProblems(filter).map(({ path, ...problem }) => ({
      kind: "invalid" as const,
      path: `spec.repositories[${index}].filter${path}`,
      ...problem,
    })),
  );
}

/** RFC 1123, as the API server wants the name of a Secret. */
const subdomainPattern = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;

function secretFaults({ spec: { imagePullSecrets } }: Image): Fault[] {
  return imagePullSecrets.flatMap(({ name }, index) => {
    if (subdomainPattern.test(name)) return [];
    const message =
      'must be the name of a Secret: lower-case letters, digits, "-" and ".", with a letter or digit at both ends of each part';
    return [
      { kind: "invalid", path: `spec.imagePullSecrets[${index}].name`, value: name, message },
    ];
  });
}
