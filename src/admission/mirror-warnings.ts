import type { Mirror } from "#api/v1/mirror.ts";
import { parseGoDuration } from "#remote/go-duration.ts";

/** Less is over before somebody has noticed a slip and put it right. */
const shortGraceMs = 3_600_000;

/**
 * Lists what the author of a Mirror may not have meant. None of it is a fault. Tags that move are what a
 * Mirror is for.
 */
export function mirrorWarnings({ spec }: Mirror): string[] {
  const { tls, removalPolicy, gracePeriod, platforms = [], referrers } = spec;
  const graceMs = parseGoDuration(gracePeriod) ?? 0;
  return [
    ...(tls?.plainHTTP
      ? [
          "spec.tls.plainHTTP: whoever is on the way to the registry reads the login and changes images",
        ]
      : []),
    ...(tls?.insecureSkipVerify
      ? [
          "spec.tls.insecureSkipVerify: any certificate is taken, so whoever is on the way to the registry reads the login and changes images; caSecret trusts a certain one",
        ]
      : []),
    ...(removalPolicy === "Delete" && graceMs < shortGraceMs
      ? [
          `spec.gracePeriod: with removalPolicy "Delete", copies are gone ${gracePeriod} after a slip in the spec, or in a list of the source's`,
        ]
      : []),
    ...(platforms.length > 0 && referrers
      ? [
          "spec.platforms: an index of some platforms has another digest, so signatures of the whole index do not hold for the copy",
        ]
      : []),
  ];
}
