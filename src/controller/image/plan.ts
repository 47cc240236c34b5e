import type { ImagePlan, ImagePlanSpec } from "#api/v1/image-plan.ts";
import type { Image } from "#api/v1/image.ts";
import { referencesOf, type ReferenceProblem } from "#api/v1/references.ts";
import { selectorProblems } from "#api/v1/selector.ts";
import type { OwnerReference } from "#kube/types.ts";

/** What an Image amounts to, and what of it cannot be done. */
export interface Planned {
  readonly spec: ImagePlanSpec;
  /** Images that are left out, each with its place in the spec. */
  readonly referenceProblems: readonly ReferenceProblem[];
  /** What is wrong with the selector, which then selects no node. */
  readonly selectorProblems: readonly string[];
}

/**
 * Works out the plan of an Image. What cannot be read is left out and told; the rest goes on. Its
 * images stand in the order of their names, so that to reorder an Image changes no plan.
 */
export function planOf(image: Image): Planned {
  const { selector, priority } = image.spec;
  const { references, problems } = referencesOf(image);
  const images = references.map(({ reference }) => ({ reference })).toSorted(byReference);
  return {
    spec: { selector, priority, images },
    referenceProblems: problems,
    selectorProblems: selectorProblems(selector),
  };
}

/** Makes the ImagePlan object of an Image: of its name, and owned by it, so that it ends with it. */
export function planObject(image: Image, spec: ImagePlanSpec): ImagePlan {
  const { name, namespace = "" } = image.metadata;
  return { metadata: { name, namespace, ownerReferences: [ownerOf(image)] }, spec };
}

/**
 * Makes the spec to store. A selector that makes no sense selects no node, and the API server refuses
 * a plan with one: such a plan asks for nothing instead.
 */
export function storableSpec({ spec, selectorProblems: problems }: Planned): ImagePlanSpec {
  return problems.length === 0 ? spec : { ...spec, selector: [], images: [] };
}

/** Whether a plan belongs to this very Image, and not to an earlier one of its name. */
export function isPlanOf(plan: ImagePlan, image: Image): boolean {
  return plan.metadata.ownerReferences?.some(({ uid }) => uid === image.metadata.uid) ?? false;
}

function ownerOf({ metadata: { name, uid = "" } }: Image): OwnerReference {
  return { apiVersion: "stvz.io/v1", kind: "Image", name, uid, controller: true };
}

function byReference(a: { reference: string }, b: { reference: string }): number {
  return a.reference < b.reference ? -1 : 1;
}
