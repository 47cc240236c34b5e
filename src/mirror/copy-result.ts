/** What it took to copy something. */
export interface CopyCounts {
  /** Of blobs that were sent. */
  readonly bytesCopied: number;
  readonly blobsCopied: number;
  /** Taken over from another repository of the target's registry. */
  readonly blobsMounted: number;
  /** There already. */
  readonly blobsSkipped: number;
  /** Manifests and indexes, those that refer to others included. */
  readonly manifestsCopied: number;
}

/**
 * How copying a tag, or a digest, went.
 *
 * - `copied`: the target has it now. `digestDiffers` if it is less than the source has, by `platforms`.
 * - `unchanged`: both sides agree already.
 * - `planned`: it would be copied; of dry runs.
 * - `throttled`: a registry is asked too often. It is no failure, and goes on later.
 * - `failed`: `code` is the error's, `reason` is for people, one line of at most 256 characters.
 */
export type CopyOutcome =
  | {
      readonly outcome: "copied" | "unchanged";
      readonly digest: string;
      readonly digestDiffers: boolean;
    }
  | { readonly outcome: "planned" }
  | { readonly outcome: "throttled"; readonly reason: string; readonly retryAfterMs?: number }
  | { readonly outcome: "failed"; readonly code: string; readonly reason: string };

/** Why something was not copied. */
export type CopyFailure = Extract<CopyOutcome, { outcome: "failed" | "throttled" }>;

/** How copying one tag or digest went, and what it took. */
export type TagResult = CopyOutcome & CopyCounts & { readonly tag: string };

interface TagEvent {
  /** The repositories, by their names for people. */
  readonly source: string;
  readonly target: string;
  /** Tag or digest. */
  readonly tag: string;
}

/** What happens while tags are copied, for whoever shows it. */
export type CopyEvent =
  | (TagEvent & { readonly kind: "tagStarted" })
  | (TagEvent & {
      readonly kind: "blobProgress";
      readonly digest: string;
      readonly sentBytes: number;
      readonly sizeBytes: number;
    })
  | (TagEvent & {
      readonly kind: "blobDone";
      readonly digest: string;
      readonly sizeBytes: number;
      readonly how: BlobOutcome;
    })
  | (TagEvent & { readonly kind: "tagDone"; readonly result: TagResult });

/** What is known of the target before something is written for a tag. */
export interface TagAtTarget {
  /** Whether the target has that tag or digest, with this content or other. */
  readonly isThere: boolean;
  /** All tags that the target had when the run began, if they are known. */
  readonly targetTags: ReadonlySet<string> | undefined;
}

/**
 * Called once for each tag for which something has to be written, and awaited before the first byte of it is.
 * If it throws, the tag has failed.
 */
export type BeforeCopy = (tag: string, target: TagAtTarget) => Promise<void>;

/** How a blob came to be at the target. */
export type BlobOutcome = "copied" | "mounted" | "skipped";

/** Something cannot be copied as the source offers it. */
export class CopyError extends Error {
  override readonly name = "CopyError";
  readonly code:
    | "NOT_FOUND"
    | "NO_PLATFORM"
    | "TOO_DEEP"
    | "TOO_MANY_REFERRERS"
    | "SIGNATURES_DIFFER";
  readonly retryable = false;
  readonly reason: string;

  constructor(code: CopyError["code"], reason: string) {
    super(`Cannot copy: ${code}: ${reason}`);
    this.code = code;
    this.reason = reason;
  }
}

/** What statuses and events have room for. */
const maxReasonLength = 256;

/** Tells of an error in a result; it must be none that only says that the run was aborted. */
export function outcomeOf(error: unknown): CopyFailure {
  const { code, reason, retryAfterMs } = fieldsOf(error);
  if (code !== "THROTTLED") return { outcome: "failed", code, reason };
  return {
    outcome: "throttled",
    reason,
    ...(typeof retryAfterMs === "number" && { retryAfterMs }),
  };
}

function fieldsOf(error: unknown): { code: string; reason: string; retryAfterMs?: unknown } {
  if (!(error instanceof Error)) return { code: "UNKNOWN", reason: oneLine(String(error)) };
  const code = "code" in error && typeof error.code === "string" ? error.code : "UNKNOWN";
  const reason = "reason" in error && typeof error.reason === "string" ? error.reason : undefined;
  return {
    code,
    // What is wrong with a manifest or blob says nothing without its name, which the message has.
    reason: oneLine("digest" in error ? error.message : (reason ?? error.message)),
    ...("retryAfterMs" in error && { retryAfterMs: error.retryAfterMs }),
  };
}

function oneLine(text: string): string {
  const line = text.replaceAll(/[\s\p{Cc}\p{Cf}]+/gu, " ").trim();
  return (
    line.length <= maxReasonLength ? line : `${line.slice(0, maxReasonLength - 1)}…`
  ).toWellFormed();
}

/** Adds up what copying something took. */
export class CopyTally {
  #counts = {
    bytesCopied: 0,
    blobsCopied: 0,
    blobsMounted: 0,
    blobsSkipped: 0,
    manifestsCopied: 0,
  };

  get counts(): CopyCounts {
    return { ...this.#counts };
  }

  addBlob(how: BlobOutcome, sizeBytes: number): void {
    if (how === "copied") {
      this.#counts.blobsCopied++;
      this.#counts.bytesCopied += sizeBytes;
    } else if (how === "mounted") this.#counts.blobsMounted++;
    else this.#counts.blobsSkipped++;
  }

  addManifest(): void {
    this.#counts.manifestsCopied++;
  }
}
