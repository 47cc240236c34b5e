import { createPrivateKey, createPublicKey, generateKeyPairSync, sign } from "node:crypto";

import type { Access } from "./grant.ts";

/** Who gives the tokens, and for whom, as the registry's configuration says too. */
export const tokenIssuer = "sandbox";
export const tokenService = "token.test";

/** How long a token is good for, in seconds. A registry allows a minute more. */
export const tokenLifetimeSeconds = 60;

/** The one key's name: in the key set that the registry reads, and in each token. */
const keyId = "sandbox";

/** Makes a key to sign tokens with, as PEM. */
export function generateTokenKey(): string {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return privateKey.export({ type: "pkcs8", format: "pem" });
}

/** The key set (RFC 7517) by which a registry checks the tokens. */
export function tokenKeySet(keyPem: string): unknown {
  const jwk = createPublicKey(keyPem).export({ format: "jwk" });
  return { keys: [{ ...jwk, kid: keyId, use: "sig", alg: "ES256" }] };
}

/** Signs a token (RFC 7519, ES256) that gives its bearer `access` for a minute from `time` on. */
export function signToken(
  keyPem: string,
  { access, subject, time }: { access: readonly Access[]; subject: string; time: Date },
): string {
  const seconds = Math.floor(time.getTime() / 1000);
  const claims = {
    iss: tokenIssuer,
    sub: subject,
    aud: tokenService,
    exp: seconds + tokenLifetimeSeconds,
    nbf: seconds,
    iat: seconds,
    access,
  };
  const signed = `${encode({ typ: "JWT", alg: "ES256", kid: keyId })}.${encode(claims)}`;
  const key = createPrivateKey(keyPem);
  const signature = sign("sha256", Buffer.from(signed), { key, dsaEncoding: "ieee-p1363" });
  return `${signed}.${signature.toString("base64url")}`;
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
