import { tagFilterProblems, type TagFilter } from "./tag-filter.ts";

/** Something that keeps an object out. */
export interface SpecProblem {
  readonly kind: "invalid" | "duplicate";
  /** The field, like `spec.repositories[0].tags[1]`. */
  readonly path: string;
  /** What stands there; empty if nothing does. */
  readonly value: string;
  /** What was expected, to stand after the value: `must …`. */
  readonly message: string;
}

/** Makes the problem of a value that is not what was expected. */
export function invalid(path: string, value: string, message: string): SpecProblem {
  return { kind: "invalid", path, value, message };
}

/** RFC 1123, as the API server wants the name of a Secret. */
const subdomainPattern = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;

/** Lists what is wrong with the name of a Secret. */
export function secretNameProblems(path: string, name: string): SpecProblem[] {
  if (subdomainPattern.test(name)) return [];
  const message =
    'must be the name of a Secret: lower-case letters, digits, "-" and ".", with a letter or digit at both ends of each part';
  return [invalid(path, name, message)];
}

/** Each may take milliseconds to check, while everybody else waits. */
const maxExpressions = 64;

/** Lists what is wrong with the filters of `spec.repositories`. */
export function filterProblems(
  repositories: readonly { readonly filter?: TagFilter }[],
): SpecProblem[] {
  const expressions = repositories.flatMap(({ filter: { include = [], exclude = [] } = {} }) => [
    ...include,
    ...exclude,
  ]);
  if (expressions.length > maxExpressions) {
    const message = `must have at most ${maxExpressions} regular expressions in all filters together`;
    return [invalid("spec.repositories", `${expressions.length} expressions`, message)];
  }
  return repositories.flatMap(({ filter = {} }, index) =>
    tagFilterProblems(filter).map(({ path, value, message }) =>
      invalid(`spec.repositories[${index}].filter${path}`, value, message),
    ),
  );
}
