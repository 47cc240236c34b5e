import type { Image } from "#api/v1/image.ts";
import { referencesOf } from "#api/v1/references.ts";
import { selectorProblems } from "#api/v1/selector.ts";
import { filterProblems, secretNameProblems, type SpecProblem } from "#api/v1/spec-problems.ts";
import { formatReference, InvalidReferenceError, parseRepository } from "#oci/reference.ts";
import { imageWarnings } from "./image-warnings.ts";
import { withoutKnown, type Verdict } from "./verdict.ts";

/**
 * Validates an Image that has passed its schema and rules, for the API server asks webhooks last:
 * what is wrong only once names are spelled out, and what no rule can say.
 *
 * @param previous - what an update replaces. Faults and warnings that it had are not told again, so
 *   that an Image from before a rule can still be changed, and be let go of.
 */
export function validateImage(image: Image, previous?: Image): Verdict {
  const verdict = verdictOf(image);
  return previous ? withoutKnown(verdict, verdictOf(previous)) : verdict;
}

function verdictOf(image: Image): Verdict {
  const { repositories, imagePullSecrets } = image.spec;
  const faults = [
    ...selectorFaults(image),
    ...referencesOf(image).problems.map((problem) => ({ kind: "invalid" as const, ...problem })),
    ...duplicates(image),
    ...filterProblems(repositories),
    ...imagePullSecrets.flatMap(({ name }, index) =>
      secretNameProblems(`spec.imagePullSecrets[${index}].name`, name),
    ),
  ];
  return { faults, warnings: imageWarnings(image) };
}

function selectorFaults({ spec: { selector } }: Image): SpecProblem[] {
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
function duplicates(image: Image): SpecProblem[] {
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
