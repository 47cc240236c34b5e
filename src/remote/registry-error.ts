import { isJsonObject, parseJson, textOf } from "#json/json.ts";
import type { Login } from "./keyring.ts";

export type RegistryErrorCode =
  | "NOT_FOUND"
  | "DENIED"
  | "THROTTLED"
  | "UNREACHABLE"
  | "BAD_ANSWER"
  | "NOT_ALLOWED";

/** What statuses and events have room for. */
const maxReasonLength = 256;

export interface RegistryErrorOptions {
  /** What was tried, like `resolve "ghcr.io/a/b:1"`. */
  act?: string;
  /** How long the registry asks to be left alone. */
  retryAfterMs?: number | undefined;
  /** Status of the answer that refuses. */
  status?: number | undefined;
  /** The registry's own code, like `NAME_UNKNOWN`. */
  ociCode?: string | undefined;
  cause?: unknown;
}

/**
 * A registry, or who gives tokens for it, did not do what was asked.
 *
 * - `NOT_FOUND`: it has no such repository, tag or digest, or hides it.
 * - `DENIED`: none of the logins, or nobody without one, may have it.
 * - `THROTTLED`: it was asked too often; `retryAfterMs` says how long to wait, if it does.
 * - `UNREACHABLE`: no answer, no whole answer in time, or a fault of its own (5xx).
 * - `BAD_ANSWER`: an answer against the specification, or past a limit.
 * - `NOT_ALLOWED`: Coral does not go where the answer leads, or to this host at all.
 *
 * `reason` is for people: Coral's words, or `code` and `message` of the registry's OCI error and
 * nothing else of its answer, without logins and queries of URLs, one line of at most 256 characters.
 */
export class RegistryError extends Error {
  override readonly name = "RegistryError";
  readonly code: RegistryErrorCode;
  readonly reason: string;
  readonly retryAfterMs?: number;
  /** Status of the answer, if one was a refusal. */
  readonly status?: number;
  /** The code in the answer's OCI error, if it has one of the specification's form. */
  readonly ociCode?: string;

  constructor(code: RegistryErrorCode, reason: string, options: RegistryErrorOptions = {}) {
    const { act = "ask the registry", retryAfterMs, status, ociCode = "", cause } = options;
    super(`Cannot ${act}: ${code}: ${reason}`, { cause });
    this.code = code;
    this.reason = reason;
    if (retryAfterMs !== undefined) this.retryAfterMs = retryAfterMs;
    if (status !== undefined) this.status = status;
    if (/^[A-Z_]{1,40}$/.test(ociCode)) this.ociCode = ociCode;
  }

  /** Whether the same request can succeed later without anybody changing anything. */
  get retryable(): boolean {
    return this.code === "THROTTLED" || this.code === "UNREACHABLE";
  }
}

/** What an answer says of itself when it refuses. */
export interface Refusal {
  readonly status: number;
  readonly retryAfter: string | undefined;
  /** Perhaps with OCI errors, perhaps of anything else. */
  readonly body: Buffer;
}

/** What is known where a refusal is read. */
export interface RefusalContext {
  readonly act: string;
  readonly now: Date;
  /** The login that was shown. */
  readonly login: Login | undefined;
  /** The `Authorization` header that was sent. */
  readonly authorization: string | undefined;
  /** Who refuses: the registry, if not given. */
  readonly who?: string;
}

/** Makes the error for an HTTP status that is none of success. */
export function refusalError(
  { status, retryAfter, body }: Refusal,
  context: RefusalContext,
  codeOf: (status: number) => RegistryErrorCode = registryCode,
): RegistryError {
  const { act, now, who = "it" } = context;
  const error = readError(body);
  const reason = reasonOf(error, context) ?? `${who} answers with status ${status}`;
  const retryAfterMs = parseRetryAfter(retryAfter, now);
  const code = isThrottling(error) ? "THROTTLED" : codeOf(status);
  return new RegistryError(code, reason, { act, retryAfterMs, status, ociCode: error?.code });
}

/** Whether an answer refuses because too much was asked. */
export function isThrottled({ status, body }: { status: number; body: Buffer }): boolean {
  return status === 429 || (status >= 400 && isThrottling(readError(body)));
}

function isThrottling(error: OciError | undefined): boolean {
  return error?.code.toUpperCase() === "TOOMANYREQUESTS";
}

/** What a registry means by a status. */
export function registryCode(status: number): RegistryErrorCode {
  if (status === 401 || status === 403) return "DENIED";
  if (status === 404) return "NOT_FOUND";
  if (status === 429) return "THROTTLED";
  return status === 408 || status >= 500 ? "UNREACHABLE" : "BAD_ANSWER";
}

interface OciError {
  readonly code: string;
  readonly message: string;
}

/** Reads the first of an answer's errors (distribution-spec, "Error Codes"). */
function readError(body: Buffer): OciError | undefined {
  const answer = parseJson(body.toString());
  const errors = isJsonObject(answer) ? answer["errors"] : undefined;
  const [first]: unknown[] = Array.isArray(errors) ? errors : [];
  if (!isJsonObject(first)) return undefined;
  return { code: textOf(first["code"]), message: textOf(first["message"]) };
}

/**
 * What of an error is told. A text that quotes a password or token is left out: what remained of it
 * would tell which letters are gone.
 */
function reasonOf(error: OciError | undefined, context: RefusalContext): string | undefined {
  const { login, authorization } = context;
  const secrets = [...secretsOf(login), authorization?.replace(/^\w+ /, "")];
  const username = login && "username" in login ? login.username : "";
  const texts = [error?.code, error?.message].map((text = "") => {
    if (secrets.some((secret) => secret !== undefined && text.includes(secret))) return "";
    return oneLine(username.length < 4 ? text : text.replaceAll(username, "***"));
  });
  const reason = texts.filter(Boolean).join(": ");
  if (reason === "") return undefined;
  return reason.length <= maxReasonLength
    ? reason
    : `${reason.slice(0, maxReasonLength - 1)}…`.toWellFormed();
}

function secretsOf(login: Login | undefined): string[] {
  if (!login) return [];
  return "username" in login ? [login.password] : [login.identityToken];
}

/** Looked at of a text, however long it is; what is taken out may make it shorter. */
const maxTextLength = 4 * maxReasonLength;

/** User and password, and all from the question mark on, of a URL with or without its scheme. */
const userInfo = /\/\/[^\s/?#"'<>]*@/gu;
const query = /\?[^\s"'<>?=]*=[^\s"'<>]*/gu;
const authorizationValue = /\b(Bearer|Basic)\s+[\w+/.~-]{8,}=*/giu;
/** Control characters, among them those that turn the direction of writing, and white space. */
const blanks = /[\s\p{Cc}\p{Cf}]+/gu;

function oneLine(text: string): string {
  return text
    .slice(0, maxTextLength)
    .replace(userInfo, "//")
    .replace(query, "")
    .replace(authorizationValue, "$1 ***")
    .replace(blanks, " ")
    .trim()
    .toWellFormed();
}

/** As long as Docker Hub counts; who asks for more is tried before. */
const maxRetryAfterMs = 6 * 60 * 60_000;

/** Parses `Retry-After`: seconds, or a date (RFC 9110, 10.2.3). */
export function parseRetryAfter(text: string | undefined, now: Date): number | undefined {
  if (text === undefined) return undefined;
  const ms = /^\d+$/.test(text) ? Number(text) * 1_000 : Date.parse(text) - now.getTime();
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), maxRetryAfterMs);
}
