export type LayoutErrorCode = "NOT_FOUND" | "BAD_LAYOUT" | "DISK";

/**
 * A directory did not give or take content.
 *
 * - `NOT_FOUND`: it does not have it.
 * - `BAD_LAYOUT`: it is no OCI layout, or one that leads out of itself or is past a limit.
 * - `DISK`: the file system refuses: no room, no right, a fault.
 */
export class LayoutError extends Error {
  override readonly name = "LayoutError";
  readonly code: LayoutErrorCode;
  readonly retryable = false;
  readonly reason: string;

  constructor(code: LayoutErrorCode, directory: string, reason: string, cause?: unknown) {
    super(`Cannot use "${directory}": ${code}: ${reason}`, { cause });
    this.code = code;
    this.reason = reason;
  }
}

/** Makes a file system's error one of the layout's; what else it is stays what it is. */
export function translateError(error: unknown, directory: string): unknown {
  if (error instanceof LayoutError || !(error instanceof Error) || !("code" in error)) return error;
  const { code, message } = error;
  if (code === "ERR_SQLITE_ERROR") return new LayoutError("DISK", directory, message, error); // Locks.
  if (!("syscall" in error) || typeof code !== "string") return error;
  if (code === "ENOENT") return new LayoutError("NOT_FOUND", directory, message, error);
  // A symbolic link where a file or folder belongs: it may lead anywhere.
  const leadsOut = code === "ELOOP" || code === "ENOTDIR" || code === "EISDIR";
  return new LayoutError(leadsOut ? "BAD_LAYOUT" : "DISK", directory, message, error);
}
