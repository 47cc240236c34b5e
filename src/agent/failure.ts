import { PullError, type PullErrorCode } from "#cri/pull-error.ts";
import { RpcError, RuntimeUnavailableError } from "#cri/rpc-error.ts";

/** Why a pull did not bring an image, in one word as reports and metrics have it. */
export const failureReasons = [
  "NotFound",
  "Denied",
  "Throttled",
  "Unreachable",
  "DiskFull",
  "RuntimeUnavailable",
  "TimedOut",
  "Stalled",
  "NotListed",
  "Unknown",
] as const;

/** What a pull that has not begun waits for, as reports have it. */
export const waitReasons = ["InsufficientDisk", "WaitingForSlot", "NoCredentials"] as const;

export type WaitReason = (typeof waitReasons)[number];

export type FailureReason = (typeof failureReasons)[number];

export interface Failure {
  readonly reason: FailureReason;
  /** For people, without credentials. */
  readonly message: string;
}

const reasons: Record<PullErrorCode, FailureReason> = {
  IMAGE_NOT_FOUND: "NotFound",
  PULL_DENIED: "Denied",
  THROTTLED: "Throttled",
  REGISTRY_UNREACHABLE: "Unreachable",
  DISK_FULL: "DiskFull",
  RUNTIME_UNAVAILABLE: "RuntimeUnavailable",
  PULL_TIMED_OUT: "TimedOut",
  UNKNOWN: "Unknown",
};

/** The runtime took a pull for done and then does not list the image under the name it was given. */
export class ImageNotListedError extends Error {
  override readonly name = "ImageNotListedError";
  readonly code = "IMAGE_NOT_LISTED";
  readonly retryable = true;

  constructor(reference: string) {
    super(`Cannot find image "${reference}" in the runtime after pulling it`);
  }
}

/** A pull was given up because nothing came for so long. Another try may meet a better connection. */
export class PullStalledError extends Error {
  override readonly name = "PullStalledError";
  readonly code = "PULL_STALLED";
  readonly retryable = true;
  readonly seconds: number;

  constructor(reference: string, timeoutMs: number) {
    const seconds = Math.round(timeoutMs / 1_000);
    super(`Cannot pull image "${reference}": nothing came for ${seconds} s`);
    this.seconds = seconds;
  }
}

/** Says in a report's words how a pull failed. */
export function failureOf(error: unknown): Failure {
  if (error instanceof PullError) return { reason: reasons[error.code], message: error.reason };
  if (error instanceof ImageNotListedError) {
    return { reason: "NotListed", message: "pulled, but the runtime does not list it" };
  }
  if (error instanceof PullStalledError) {
    return { reason: "Stalled", message: `nothing came for ${error.seconds} s` };
  }
  if (error instanceof RuntimeUnavailableError) {
    return { reason: "RuntimeUnavailable", message: error.message };
  }
  // Only the runtime's own errors are known to be without credentials.
  return { reason: "Unknown", message: error instanceof RpcError ? error.message : "unknown" };
}

/** Whether a failure says something about the image. A runtime that is away says nothing. */
export function concernsImage({ reason }: Failure): boolean {
  return reason !== "RuntimeUnavailable";
}
