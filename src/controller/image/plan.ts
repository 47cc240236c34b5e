import type { ImagePlan, ImagePlanSpec } from "#api/v1/image-plan.ts";
import type { Image } from "#api/v1/image.ts";
import { referencesOf, type ListedTags, type ReferenceProblem } from "#api/v1/references.ts";
import { selectorProblems } from "#api/v1/selector.ts";
import type { OwnerReference } from "#kube/types.ts";
import type { Allowance } from "./quota.ts";

/** What an Image amounts to, and what of it cannot be done. */
export interface Planned {
  readonly spec: ImagePlanSpec;
  /** All that the Image asks for, be it in the plan or refused. */
  readonly wanted: readonly string[];
  /** Images that are left out, each with its place in the spec. */
  readonly referenceProblems: readonly ReferenceProblem[];
  /** What is wrong with the selector, which then selects no node. */
  readonly selectorProblems: readonly string[];
  /** Images that the namespace may not ask for, each with the reason. */
  readonly quotaProblems: readonly string[];
  /** Repositories whose tags are not known yet. */
  readonly unlisted: number;
}

/** What is known of the world outside the Image. What is not known yet is left out of the plan. */
export interface Known {
  readonly listed?: ListedTags;
  /** What a registry told of a reference. */
  readonly found?: (reference: string) => FoundImage | undefined;
  /** Of the logins that the Image may use, from its Secrets and the operator's providers, if it may use any. */
  readonly pullSecretsRevision?: string;
  /** Whether a registry is being asked about a reference for the first time. */
  readonly isOpen?: (reference: string) => boolean;
  /** What its namespace may still ask for; without it, everything. */
  readonly allowance?: Allowance;
}

/** What a registry told of an image. */
export interface FoundImage {
  readonly digest: string;
  readonly sizes: readonly PlatformSize[];
}

/** How much there is to download for one platform. */
export interface PlatformSize {
  /** Like `linux/arm64`. */
  readonly platform: string;
  readonly sizeBytes: number;
}

/**
 * Works out the plan of an Image. What cannot be read is left out and told; the rest goes on. Its
 * images stand in the order of their names, so that to reorder an Image changes no plan.
 */
export function planOf(image: Image, known: Known = {}): Planned {
  const { listed, pullSecretsRevision } = known;
  const { selector, priority, imagePullPolicy, maxConcurrentNodes } = image.spec;
  let unlisted = 0;
  const { references, problems } = referencesOf(image, (repository) => {
    const tags = listed?.(repository);
    if (!tags) unlisted++;
    return tags;
  });
  const quotaProblems: string[] = [];
  const wanted = references.map(({ reference }) => reference).toSorted();
  const images = wanted.flatMap((reference) => {
    const { image, refusal } = plannedImage(reference, known);
    if (refusal !== undefined) quotaProblems.push(`${reference} ${refusal}`);
    return image ?? [];
  });
  return {
    spec: {
      selector,
      priority,
      imageGeneration: image.metadata.generation ?? 0,
      ...(imagePullPolicy === "Always" && { imagePullPolicy }),
      ...(pullSecretsRevision !== undefined && { pullSecretsRevision }),
      ...(maxConcurrentNodes !== undefined && { maxConcurrentNodes }),
      images,
    },
    wanted,
    referenceProblems: problems,
    selectorProblems: selectorProblems(selector),
    quotaProblems,
    unlisted,
  };
}

function plannedImage(
  reference: string,
  { found, isOpen, allowance }: Known,
): { image?: ImagePlanSpec["images"][number]; refusal?: string } {
  const refusal = allowance?.refusal(reference);
  if (refusal !== undefined) return { refusal };
  const { digest, sizes = [] } = found?.(reference) ?? {};
  // Every node would begin to pull what may be refused in a moment.
  if (allowance?.needsSizes && isOpen?.(reference)) return {};
  const image = {
    reference,
    ...(digest !== undefined && { digest }),
    ...(sizes.length > 0 && { sizes }),
  };
  const sizeRefusal = allowance?.sizeRefusal(image);
  return sizeRefusal === undefined ? { image } : { refusal: sizeRefusal };
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
