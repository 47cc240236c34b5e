import type { Image, ImageSpec } from "#api/v1/image.ts";
import type { ImagePlanSpec } from "#api/v1/image-plan.ts";
import { InvalidReferenceError, parseRepository } from "#oci/reference.ts";

export type RepositorySpec = ImageSpec["repositories"][number];

/** Whether an Image wants all tags of a repository, so that a registry has to list them. */
export function isListed({ listSelection }: RepositorySpec): boolean {
  return listSelection === "all";
}

/** Makes a test for references that may come to name something else, and are to be followed then. */
export function movingIn({ spec }: Image): (reference: string) => boolean {
  const listed = spec.repositories.filter(isListed).flatMap(({ name }) => prefixOf(name) ?? []);
  const isAlways = spec.imagePullPolicy === "Always";
  return (reference) =>
    !reference.includes("@") && (isAlways || listed.some((prefix) => reference.startsWith(prefix)));
}

/** The tags of a repository that a plan has; `undefined` if it has none. */
export function tagsInPlan(
  plan: ImagePlanSpec | undefined,
  { name }: RepositorySpec,
): string[] | undefined {
  const prefix = prefixOf(name);
  if (prefix === undefined) return undefined;
  const tags = plan?.images
    .filter(({ reference }) => reference.startsWith(prefix) && !reference.includes("@"))
    .map(({ reference }) => reference.slice(prefix.length));
  return tags && tags.length > 0 ? tags : undefined;
}

/** What stands before the tag in the references of a repository; `undefined` if it can have none. */
function prefixOf(name: string): string | undefined {
  try {
    const { registry, path } = parseRepository(name);
    return `${registry}/${path}:`;
  } catch (error) {
    if (error instanceof InvalidReferenceError) return undefined;
    throw error;
  }
}
