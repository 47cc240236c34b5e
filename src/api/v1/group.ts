/** The API group of all of Coral's kinds. */
export const apiGroup = "stvz.io";

/** The version of all of Coral's kinds. */
export const apiVersion = "v1";
