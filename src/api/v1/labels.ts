import { referenceLabel } from "#oci/reference.ts";

/** Begins each node label that says how an image is doing there, and each annotation of Coral's. */
export const labelPrefix = "image.stvz.io/";

const imageLabelPattern = /^image\.stvz\.io\/[0-9a-f]{32}$/;

/**
 * Whether a node label is one that Coral writes and removes. A label that merely begins alike, as
 * `image.stvz.io/team` and `image.stvz.io-team/x` do, belongs to somebody else.
 */
export function isImageLabel(key: string): boolean {
  return imageLabelPattern.test(key);
}

/**
 * Names the node label of an image.
 *
 * @throws {InvalidReferenceError} if `reference` is not an image name.
 */
export function imageLabel(reference: string): string {
  return labelPrefix + referenceLabel(reference);
}
