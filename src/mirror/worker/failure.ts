import type { CopyFailure } from "#mirror/copy-result.ts";

/** Why something was not copied, as statuses tell it. */
export interface Failure {
  /** In one word, the same as Images have for the same. */
  readonly reason: string;
  readonly message: string;
}

/** The words for errors' codes. */
const reasons = new Map([
  ["NOT_FOUND", "NotFound"],
  ["DENIED", "Denied"],
  ["THROTTLED", "Throttled"],
  ["UNREACHABLE", "Unreachable"],
  ["BAD_ANSWER", "BadAnswer"],
  ["NOT_ALLOWED", "NotAllowed"],
  ["WRONG_CONTENT", "WrongContent"],
  ["NO_PLATFORM", "NoPlatform"],
  ["TOO_DEEP", "TooDeep"],
  ["TOO_MANY_REFERRERS", "TooManyReferrers"],
  ["SIGNATURES_DIFFER", "SignaturesDiffer"],
  ["UNSUPPORTED_MANIFEST", "UnsupportedManifest"],
  ["INVALID_MANIFEST", "InvalidManifest"],
  ["INVALID_REFERENCE", "InvalidReference"],
  ["INVALID_FILTER", "InvalidFilter"],
  ["FILTER_TOO_SLOW", "FilterTooSlow"],
  ["TOO_MANY_TAGS", "TooManyTags"],
  ["SECRET_INVALID", "SecretInvalid"],
]);

/** Says why something was not copied. */
export function failureOf(failure: CopyFailure): Failure {
  const code = failure.outcome === "throttled" ? "THROTTLED" : failure.code;
  return { reason: reasons.get(code) ?? "Unknown", message: failure.reason };
}
