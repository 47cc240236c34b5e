import { createPrivateKey, X509Certificate, type KeyObject } from "node:crypto";
import { createSecureContext } from "node:tls";

import type { ServerCertificate } from "#http/serve.ts";
import type { Secret } from "#kube/types.ts";

/** What a Secret, or files, hold of Coral's certificates: only what is in order. */
export interface TlsState {
  /** What clients are to trust, the newest first. */
  readonly authorities: readonly X509Certificate[];
  /** The authority whose key we have. */
  readonly signer?: { readonly certificate: X509Certificate; readonly key: string };
  /** What is served; one of `authorities` signed it. */
  readonly serving?: ServerCertificate & { readonly leaf: X509Certificate };
  /** What is not in order, for the log. Nothing of a key is in it. */
  readonly problems: readonly string[];
}

/** The same as text: what the Secret's fields say before they are in base64. */
export interface TlsTexts {
  readonly "tls.crt": string;
  readonly "tls.key": string;
  readonly "ca.crt": string;
  readonly "ca.key": string;
}

/** Far more than a certificate chain, and nothing to choke on. */
const maxTextChars = 65_536;
const maxAuthorities = 8;

/**
 * Reads Coral's certificates from their Secret. Whoever may write it may write anything: what is
 * garbage, or does not fit together, is left out and becomes a problem.
 */
export function readTlsSecret(secret: Secret | undefined): TlsState {
  if (!secret) return { authorities: [], problems: ["there is no Secret"] };
  const text = (name: keyof TlsTexts): string =>
    Buffer.from(secret.data?.[name] ?? "", "base64").toString();
  return readTlsTexts({
    "tls.crt": text("tls.crt"),
    "tls.key": text("tls.key"),
    "ca.crt": text("ca.crt"),
    "ca.key": text("ca.key"),
  });
}

function readTlsTexts(texts: TlsTexts): TlsState {
  const problems: string[] = [];

  function attempt<T>(field: keyof TlsTexts, read: (text: string) => T): T | undefined {
    const text = texts[field];
    try {
      if (text === "") throw new Error("must be there");
      if (text.length > maxTextChars)
        throw new Error(`must have at most ${maxTextChars} characters`);
      return read(text);
    } catch (error) {
      problems.push(`${field}: ${error instanceof Error ? error.message : "unreadable"}`);
      return undefined;
    }
  }

  const authorities = attempt("ca.crt", readAuthorities) ?? [];
  const signer = attempt("ca.key", (key) => {
    const keyObject = readKey(key);
    const certificate = authorities.find((candidate) => candidate.checkPrivateKey(keyObject));
    if (!certificate) throw new Error("must be the key of a certificate in ca.crt");
    return { certificate, key };
  });
  const serving = attempt("tls.crt", (cert) => {
    readCertificate(cert); // So that its fault is not taken for one of the key.
    const served = attempt("tls.key", (key) => readServerCertificate({ cert, key }));
    if (!served || authorities.some((authority) => hasIssued(authority, served.leaf)))
      return served;
    throw new Error("must be signed by a certificate in ca.crt");
  });
  return { authorities, problems, ...(signer && { signer }), ...(serving && { serving }) };
}

/**
 * Reads a certificate with its key, and makes sure that they can be served.
 *
 * @throws {Error} saying what is wrong, without anything of the key.
 */
export function readServerCertificate({
  cert,
  key,
}: ServerCertificate): ServerCertificate & { readonly leaf: X509Certificate } {
  const leaf = readCertificate(cert);
  if (!leaf.checkPrivateKey(readKey(key))) throw new Error("must be the key of tls.crt");
  createSecureContext({ cert, key });
  return { cert, key, leaf };
}

/** Reads certificates of authorities, one after the other. @throws {Error} saying what is wrong. */
export function readAuthorities(bundle: string): X509Certificate[] {
  const end = "-----END CERTIFICATE-----";
  const blocks = bundle.split(end).slice(0, -1);
  if (blocks.length === 0) throw new Error("must be a certificate in PEM");
  const authorities = blocks.slice(0, maxAuthorities).map((block) => readCertificate(block + end));
  if (!authorities.every(({ ca }) => ca)) throw new Error("must be certificates of authorities");
  return authorities;
}

/** Whether an authority has signed a certificate. */
export function hasIssued(authority: X509Certificate, certificate: X509Certificate): boolean {
  return certificate.checkIssued(authority) && certificate.verify(authority.publicKey);
}

function readCertificate(pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch {
    throw new Error("must be a certificate in PEM");
  }
}

function readKey(pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch {
    throw new Error("must be a private key in PEM"); // What OpenSSL says may quote the text.
  }
}
