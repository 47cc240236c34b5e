import { isJsonObject } from "#json/json.ts";

/** A request as errors and logs name it. The query is left out: it can be long, and says little. */
export interface RequestName {
  readonly method: string;
  readonly path: string;
}

/** The API server answered with a refusal. `reason` is the Status's own, like `NotFound`. */
export class ApiError extends Error {
  override readonly name: string = "ApiError";
  readonly code = "API_ERROR";
  /** HTTP status; for a failed watch, the code in its ERROR event. */
  readonly status: number;
  readonly reason: string;
  /** How long the server asks to be left alone. */
  readonly retryAfterMs?: number;

  constructor(request: RequestName, refusal: Refusal) {
    const { status, reason, message, retryAfterMs } = refusal;
    super(`Cannot ${request.method} "${request.path}": ${status} ${reason}: ${message}`);
    this.status = status;
    this.reason = reason;
    if (retryAfterMs !== undefined) this.retryAfterMs = retryAfterMs;
  }

  /** Whether the same request can succeed later without anybody changing anything. */
  get retryable(): boolean {
    return this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/**
 * The object was not as the request took it to be: another writer was first (reason `Conflict`), or
 * it exists already (`AlreadyExists`). Only a conflict is worth another try, after reading anew.
 */
export class ConflictError extends ApiError {
  override readonly name = "ConflictError";

  override get retryable(): boolean {
    return this.reason === "Conflict";
  }
}

/** The API server could not be asked, or its answer did not arrive. It may have acted on a write. */
export class ApiUnreachableError extends Error {
  override readonly name = "ApiUnreachableError";
  readonly code = "API_UNREACHABLE";
  readonly retryable = true;

  constructor(request: RequestName, why: string, cause?: unknown) {
    super(`Cannot ${request.method} "${request.path}": ${why}`, { cause });
  }
}

/** The answer is longer than Coral accepts. */
export class ResponseTooLargeError extends Error {
  override readonly name = "ResponseTooLargeError";
  readonly code = "RESPONSE_TOO_LARGE";
  readonly retryable = false;
  readonly limitBytes: number;

  constructor(request: RequestName, limitBytes: number) {
    super(`Cannot ${request.method} "${request.path}": the answer exceeds ${limitBytes} bytes`);
    this.limitBytes = limitBytes;
  }
}

export interface Refusal {
  readonly status: number;
  readonly reason: string;
  readonly message: string;
  readonly retryAfterMs?: number;
}

/** A server's message may quote the whole request. */
const maxMessageLength = 1_024;

/** Makes the error for an HTTP status of 400 or more. */
export function apiError(
  request: RequestName,
  status: number,
  body: unknown,
  retryAfter: string | undefined,
): ApiError {
  const refusal = readStatus(body, status);
  const retryAfterMs = refusal.retryAfterMs ?? parseRetryAfter(retryAfter);
  const full = { ...refusal, status, ...(retryAfterMs !== undefined && { retryAfterMs }) };
  return status === 409 ? new ConflictError(request, full) : new ApiError(request, full);
}

/** Makes the error for the Status in a watch's ERROR event. */
export function watchError(request: RequestName, body: unknown): ApiError {
  return new ApiError(request, readStatus(body, 500));
}

/** Reads a meta/v1 Status. A proxy before the API server answers with anything else. */
function readStatus(body: unknown, otherwise: number): Refusal {
  const { code, reason, message, details } = isJsonObject(body) ? body : {};
  const seconds = isJsonObject(details) ? details["retryAfterSeconds"] : undefined;
  return {
    status: typeof code === "number" ? code : otherwise,
    reason: typeof reason === "string" && reason !== "" ? reason : "Unknown",
    message: typeof message === "string" ? message.slice(0, maxMessageLength) : "no explanation",
    ...(typeof seconds === "number" && seconds > 0 && { retryAfterMs: seconds * 1_000 }),
  };
}

/** Reads seconds. The API server sends no dates here. */
function parseRetryAfter(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,6}$/.test(text) ? Number(text) * 1_000 : undefined;
}
