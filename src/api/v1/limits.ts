/**
 * The longest normalised reference: 255 characters of name, 128 of tag and 135 of digest, with
 * the separators (`#oci/reference.ts`).
 */
export const maxReferenceLength = 520;

/** Most references of one Image, and so of one ImagePlan and one Image status. */
export const maxReferences = 500;
