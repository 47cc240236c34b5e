import { redact } from "./redact.ts";
import { RpcError, RuntimeUnavailableError } from "./rpc-error.ts";

export type PullErrorCode =
  | "IMAGE_NOT_FOUND"
  | "PULL_DENIED"
  | "THROTTLED"
  | "REGISTRY_UNREACHABLE"
  | "DISK_FULL"
  | "RUNTIME_UNAVAILABLE"
  | "PULL_TIMED_OUT"
  | "UNKNOWN";

/** What a NodeReport has room for. */
const maxReasonLength = 256;

/**
 * The runtime did not pull an image. Not `retryable` if only a person can change the outcome.
 *
 * `reason` is the runtime's own text for people, without credentials and URL queries, at most 256
 * characters; it is never to be taken apart, that is what `code` is for.
 */
export class PullError extends Error {
  override readonly name = "PullError";
  readonly code: PullErrorCode;
  readonly reason: string;

  constructor(reference: string, code: PullErrorCode, reason: string, cause: unknown) {
    const named = redact(reference, { maxLength: maxReasonLength - 64 });
    super(`Cannot pull image "${named}": ${code}`, { cause });
    this.code = code;
    this.reason = reason;
  }

  get retryable(): boolean {
    return this.code !== "IMAGE_NOT_FOUND" && this.code !== "PULL_DENIED";
  }

  /**
   * Translates how a PullImage call failed.
   *
   * @param secrets - what was sent to log in: removed from `reason`, and the cause is dropped if its
   * text has one.
   */
  static from(reference: string, cause: unknown, secrets: readonly string[] = []): PullError {
    const text = cause instanceof Error ? cause.message : String(cause);
    const reason = redact(withoutWrapping(text, reference), {
      maxLength: maxReasonLength,
      secrets,
    });
    const isTelling = secrets.some((secret) => secret !== "" && text.includes(secret));
    return new PullError(reference, codeOf(cause), reason, isTelling ? undefined : cause);
  }
}

function codeOf(cause: unknown): PullErrorCode {
  if (cause instanceof RuntimeUnavailableError) return "RUNTIME_UNAVAILABLE";
  if (!(cause instanceof RpcError)) return "UNKNOWN";
  const text = `${withoutNames(cause.message).toLowerCase()}$`;
  const rule = rules.find(({ phrases }) => phrases.some((phrase) => text.includes(phrase)));
  return rule?.code ?? codeOfStatus(cause);
}

/**
 * What runtimes say, in lower case; `$` stands for the end. The first rule with a matching phrase
 * wins. Most errors of containerd have the status UNKNOWN, so only their words tell them apart.
 * Texts recorded from runtimes are in `pull-error.test.ts`.
 */
const rules: readonly { code: PullErrorCode; phrases: readonly string[] }[] = [
  { code: "DISK_FULL", phrases: ["no space left on device", "disk quota exceeded"] },
  // Before denials: Docker Hub's limit is answered to the request for a token too.
  { code: "THROTTLED", phrases: ["toomanyrequests", "too many requests"] },
  // The runtime's own parts, not the registry's: trying again may help.
  {
    code: "UNKNOWN",
    phrases: [
      "content digest ",
      "dial unix",
      "failed to extract layer",
      "failed to prepare extraction snapshot",
      "failed to unpack image",
    ],
  },
  { code: "RUNTIME_UNAVAILABLE", phrases: ["server is not initialized yet"] },
  {
    code: "PULL_DENIED",
    phrases: [
      "insufficient_scope",
      "authorization failed",
      "authentication required",
      "no basic auth credentials",
      "access denied",
      "is denied",
      "denied: ",
      "unauthorized: ",
      "401 unauthorized",
      "403 forbidden",
    ],
  },
  {
    code: "REGISTRY_UNREACHABLE",
    phrases: [
      "dial tcp",
      "no such host",
      "connection refused",
      "connection reset",
      "broken pipe",
      "i/o timeout",
      "network is unreachable",
      "no route to host",
      "server misbehaving",
      "proxyconnect ",
      "tls: ",
      "x509: ",
      "tls handshake",
      "server gave http response to https client",
      "client.timeout",
      "timeout awaiting response headers",
      "registryunavailable",
      "500 internal server error",
      "502 bad gateway",
      "503 service unavailable",
      "504 gateway timeout",
      "eof$",
    ],
  },
  {
    code: "IMAGE_NOT_FOUND",
    phrases: [
      "manifest unknown",
      "name unknown",
      "repository name not known",
      "404 not found",
      "no match for platform",
      "no image found in manifest list",
      "no image found in image index",
      "not found$",
    ],
  },
  { code: "PULL_TIMED_OUT", phrases: ["context deadline exceeded"] },
];

function codeOfStatus({ code }: RpcError): PullErrorCode {
  switch (code) {
    case "NOT_FOUND":
      return "IMAGE_NOT_FOUND";
    case "UNAUTHENTICATED":
    case "PERMISSION_DENIED":
      return "PULL_DENIED";
    case "UNAVAILABLE":
      return "RUNTIME_UNAVAILABLE";
    case "DEADLINE_EXCEEDED":
    // A pull that nobody here cancelled: containerd gave up after its image_pull_progress_timeout.
    case "CANCELLED":
      return "PULL_TIMED_OUT";
    case "OK":
    case "UNKNOWN":
    case "INVALID_ARGUMENT":
    case "ALREADY_EXISTS":
    case "RESOURCE_EXHAUSTED":
    case "FAILED_PRECONDITION":
    case "ABORTED":
    case "OUT_OF_RANGE":
    case "UNIMPLEMENTED":
    case "INTERNAL":
    case "DATA_LOSS":
      return "UNKNOWN";
    default:
      return code satisfies never;
  }
}

/**
 * Takes out every word with a slash: names of images, URLs and paths, in which their authors could
 * write what passes for the runtime's words.
 */
function withoutNames(text: string): string {
  return text.replace(/\S+/gu, (word) => (word.includes("/") && word !== "i/o" ? "NAME" : word));
}

/**
 * Drops the first words of containerd's errors, which only repeat the act and the image, and the
 * local end of connections, whose port would make a new text of every attempt.
 */
function withoutWrapping(text: string, reference: string): string {
  let rest = text.replace(/^rpc error: code = \w+ desc = /u, "");
  for (const act of ["failed to pull and unpack image", "failed to resolve reference"]) {
    const prefix = `${act} "${reference}": `;
    if (rest.startsWith(prefix)) rest = rest.slice(prefix.length);
  }
  return rest.replace(/\S+/gu, (word) => word.replace(/^[\d.:[\]a-f]+->/u, ""));
}
