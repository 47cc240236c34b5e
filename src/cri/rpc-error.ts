import { redact } from "./redact.ts";

/** The gRPC statuses in the order of their numbers, https://grpc.io/docs/guides/status-codes/. */
export const rpcCodes = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

export type RpcCode = (typeof rpcCodes)[number];

/** Longest text kept of a status: containerd repeats the image's name in each wrapping of an error. */
const maxMessageLength = 4096;

/**
 * The runtime answered a call with a status other than OK, or the call broke a limit of its own:
 * `DEADLINE_EXCEEDED` (its time is over) or `RESOURCE_EXHAUSTED` (the answer is too large).
 *
 * The message is the runtime's text without credentials and query strings: see {@link redact}.
 */
export class RpcError extends Error {
  override readonly name = "RpcError";
  readonly code: RpcCode;

  constructor(code: RpcCode, message: string) {
    super(redact(message, { maxLength: maxMessageLength }));
    this.code = code;
  }
}

/** The connection to the runtime could not be made, or was lost before the answer. Try again later. */
export class RuntimeUnavailableError extends Error {
  override readonly name = "RuntimeUnavailableError";
  readonly code = "RUNTIME_UNAVAILABLE";
  readonly retryable = true;
}

/** The runtime does not offer what was asked: it is another kind, or older. */
export class UnsupportedError extends Error {
  override readonly name = "UnsupportedError";
  readonly code = "UNSUPPORTED";
  readonly retryable = false;
}
