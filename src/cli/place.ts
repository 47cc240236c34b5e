import { parseRepository, InvalidReferenceError, type Repository } from "#oci/reference.ts";

/** An OCI layout, or a repository of one, as `oci:DIR` and `oci:DIR:ghcr.io/a/b` name them. */
export interface LayoutPlace {
  /** As it was written: relative to where the command runs, or absolute. */
  readonly folder: string;
  /** One of the layout's repositories; without it, whatever the layout holds. */
  readonly repository?: Repository;
}

/** A text names no OCI layout. */
export class InvalidPlaceError extends Error {
  override readonly name = "InvalidPlaceError";
  readonly code = "INVALID_PLACE";
  readonly retryable = false;
  /** What was expected, to stand after the text: `must …`. */
  readonly reason: string;

  constructor(text: string, reason: string) {
    super(`Cannot use ${JSON.stringify(text)}: ${reason}`);
    this.reason = reason;
  }
}

const scheme = "oci:";

/** Whether a text is meant to name a layout. No image name begins so: it would have a tag or a port. */
export function isLayoutName(text: string): boolean {
  return text.startsWith(scheme) && !/^oci:[0-9]+(\/|$)/.test(text);
}

/** Parses the name of a layout. @throws {InvalidPlaceError} */
export function parseLayoutName(text: string): LayoutPlace {
  const rest = text.slice(scheme.length);
  const colon = rest.indexOf(":");
  const folder = colon < 0 ? rest : rest.slice(0, colon);
  if (folder === "" || folder.includes("\0")) {
    throw new InvalidPlaceError(text, 'must have a folder after "oci:", like "oci:./images"');
  }
  if (colon < 0) return { folder };
  try {
    return { folder, repository: parseRepository(rest.slice(colon + 1)) };
  } catch (error) {
    if (!(error instanceof InvalidReferenceError)) throw error;
    throw new InvalidPlaceError(
      text,
      `must have the name of a repository after the folder, which ${error.reason}`,
    );
  }
}
