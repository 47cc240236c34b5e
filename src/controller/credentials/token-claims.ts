import { isJsonObject, parseJson, textOf, type JsonObject } from "#json/json.ts";

/** For whom the agents' tokens are. The API server's own audience is another: no stray token will do. */
export const tokenAudience = "coral";

/** The agents' service account. */
export interface AgentAccount {
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** Why a request is not answered. */
export interface TokenRefusal {
  /** 401: nobody we know; 403: somebody else; 503: cannot be told now. */
  readonly status: 401 | 403 | 503;
  readonly message: string;
}

/** What is said of tokens that are not those of Coral's agents. */
export const refusals = {
  invalid: { status: 401, message: `a valid token of audience "${tokenAudience}" is needed` },
  stranger: { status: 403, message: "only Coral's agents are answered" },
  unbound: { status: 403, message: "the token must be bound to one node" },
} as const satisfies Record<string, TokenRefusal>;

const maxIssuerChars = 1_024;

/**
 * Tells why a token cannot be an agent's, going by what it says of itself, without asking anybody;
 * `undefined` if it may be one. Anybody can write such a token, so that it says nothing in favour of one:
 * only a review does. When a token ends is for the API server to say, whose clock counts.
 *
 * The claims are those of a service account's token that is bound to a pod: RFC 7519, and Kubernetes'
 * own (pkg/serviceaccount/claims.go), with the node since 1.32.
 */
export function refusalOf(
  token: string,
  { namespace, serviceAccount }: AgentAccount,
): TokenRefusal | undefined {
  const claims = claimsOf(token);
  if (!claims) return refusals.invalid;
  const { aud, iss, sub, "kubernetes.io": bound } = claims;
  const isForUs = Array.isArray(aud) ? aud.includes(tokenAudience) : aud === tokenAudience;
  if (!isForUs || !isIssuer(textOf(iss))) return refusals.invalid;
  const { namespace: itsNamespace, serviceaccount, node } = isJsonObject(bound) ? bound : {};
  if (
    sub !== `system:serviceaccount:${namespace}:${serviceAccount}` ||
    itsNamespace !== namespace ||
    nameOf(serviceaccount) !== serviceAccount
  ) {
    return refusals.stranger;
  }
  return nameOf(node) === "" ? refusals.unbound : undefined;
}

/** @returns `undefined` if it is no JSON Web Token in its compact form (RFC 7515 §7.1). */
function claimsOf(token: string): JsonObject | undefined {
  const [, header = "", payload = ""] = /^([\w-]+)\.([\w-]+)\.[\w-]+$/.exec(token) ?? [];
  const [protectedHeader, claims] = [header, payload].map((part) =>
    parseJson(Buffer.from(part, "base64url").toString()),
  );
  return isJsonObject(protectedHeader) && isJsonObject(claims) ? claims : undefined;
}

/** A text, or a URL if it has a colon (RFC 7519 §2, StringOrURI). */
function isIssuer(issuer: string): boolean {
  if (issuer === "" || issuer.length > maxIssuerChars) return false;
  return !issuer.includes(":") || URL.canParse(issuer);
}

function nameOf(object: unknown): string {
  return isJsonObject(object) ? textOf(object["name"]) : "";
}
