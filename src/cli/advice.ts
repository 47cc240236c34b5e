/** What went wrong, and between whom. */
export interface Failure {
  readonly code: string;
  /** If it is a registry's, it begins with its host. */
  readonly reason: string;
  /** The repositories, by their names for people. */
  readonly source: string;
  readonly target: string;
}

/** Says what a person can do about a failure. */
export function adviceFor(failure: Failure): string {
  const host = hostOf(failure);
  switch (failure.code) {
    case "DENIED":
      return `log in with "docker login ${host}", as somebody who may ${host === sideOf(failure.target) ? "push there" : "pull there"}`;
    case "NOT_FOUND":
      return "look for a slip in the name or tag; some registries say this to who is not logged in";
    case "THROTTLED":
      return "run it again later, or log in: many registries allow more to who they know";
    case "UNREACHABLE":
      return connectionAdvice(host, failure.reason);
    case "BAD_ANSWER":
      return `see whether ${host} is a registry`;
    case "WRONG_CONTENT":
      return "the source is damaged: push the image there anew";
    case "UNSUPPORTED_MANIFEST":
    case "INVALID_MANIFEST":
      return "push the image to the source anew, with a tool of these days";
    case "NO_PLATFORM":
      return "change spec.platforms, or leave the tag out";
    case "HELPER_NOT_FOUND":
    case "HELPER_FAILED":
      return `mend the credential helper, or log in without one: "docker login ${host}"`;
    case "DISK":
      return "see whether the disk is full and may be written to";
    case "BAD_LAYOUT":
      return "see whether the folder is an OCI layout, whole and unchanged";
    case "INVALID_FILTER":
    case "FILTER_TOO_SLOW":
    case "TOO_MANY_TAGS":
      return "make the filter simpler, or list the tags";
    case "TOO_MANY_REFERRERS":
      return "set spec.referrers to false, or remove some at the source";
    case "SIGNATURES_DIFFER":
      return "bring the target's signatures to the source, or remove that tag at the target";
    default:
      return "run it again; if it fails again, please report it with this line";
  }
}

/** By the names that OpenSSL and Node give to what went wrong. */
function connectionAdvice(host: string, reason: string): string {
  if (/CERT|SIGNATURE|SELF_SIGNED|ISSUER|ALTNAME/.test(reason)) {
    return `have its certificate trusted by --ca-file FILE, or not looked at by --insecure-skip-tls-verify ${host}`;
  }
  if (/SSL|EPROTO/.test(reason))
    return `if it speaks HTTP without TLS, say so: --plain-http ${host}`;
  return `see whether ${host} can be reached from here`;
}

/** The registry that a failure is about; if it does not say so, the source's. */
function hostOf({ reason, source, target }: Failure): string {
  const [first, second] = [sideOf(source), sideOf(target)];
  const isTarget = reason.startsWith(`${second}: `) || reason.includes(`"${second}"`);
  return isTarget && !reason.startsWith(`${first}: `) ? second : first;
}

function sideOf(name: string): string {
  return name.startsWith("oci:") ? name : name.slice(0, name.indexOf("/"));
}
