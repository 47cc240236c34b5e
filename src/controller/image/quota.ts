import type { ImagePlanSpec } from "#api/v1/image-plan.ts";
import { parseReference } from "#oci/reference.ts";
import { largestSize, nothingTaken, type Taken } from "./quota-usage.ts";

type PlannedImage = ImagePlanSpec["images"][number];

/** What the Images of one namespace may ask for together. */
export interface Quota {
  /** Registries (`host[:port]`) from which images may come; empty means every one. */
  readonly allowedRegistries: readonly string[];
  /** Most different references; 0 means no bound. */
  readonly references: number;
  /** Most compressed bytes on one node, as far as sizes are known; 0 means no bound. */
  readonly bytesPerNode: number;
}

/** Whether a quota bounds what Images of a namespace take together. */
export function hasBounds({ references, bytesPerNode }: Quota): boolean {
  return references > 0 || bytesPerNode > 0;
}

/** Says of one image after another whether it is within what is left, and counts those that are. */
export interface Allowance {
  /** Whether an image counts by its size, so that one whose size is being asked for has to wait. */
  readonly needsSizes: boolean;
  /** @returns why not, or `undefined`. Asked before a registry is. */
  readonly refusal: (reference: string) => string | undefined;
  /** @returns why not, or `undefined`. Asked when the size is known, and not for a refused reference. */
  readonly sizeRefusal: (image: PlannedImage) => string | undefined;
}

/** Begins with what older Images of the namespace have taken: who came first keeps what it has. */
export function allowance(quota: Quota, taken: Taken = nothingTaken): Allowance {
  /** What was let through, with its size as far as it is known. */
  const mine = new Map<string, number>();
  let { references, bytes } = taken;
  return {
    needsSizes: quota.bytesPerNode > 0,

    refusal(reference) {
      const { registry } = parseReference(reference);
      const { allowedRegistries } = quota;
      if (allowedRegistries.length > 0 && !allowedRegistries.includes(registry)) {
        return `comes from a registry that is not among the allowed ones: ${allowedRegistries.join(", ")}`;
      }
      if (mine.has(reference) || taken.sizeOf(reference) !== undefined) return undefined;
      if (quota.references > 0 && references >= quota.references) {
        return `is more than the ${quota.references} images that a namespace may ask for`;
      }
      mine.set(reference, 0);
      references++;
      return undefined;
    },

    sizeRefusal(image) {
      const { reference } = image;
      const { bytesPerNode } = quota;
      const counted = Math.max(mine.get(reference) ?? 0, taken.sizeOf(reference) ?? 0);
      const added = Math.max(largestSize(image) - counted, 0);
      if (bytesPerNode > 0 && added > 0 && bytes + added > bytesPerNode) {
        return `would pass the ${bytesPerNode} bytes that a namespace may have on a node`;
      }
      bytes += added;
      mine.set(reference, counted + added);
      return undefined;
    },
  };
}
