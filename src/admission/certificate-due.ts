import { X509Certificate } from "node:crypto";

import { issueAuthority, issueServing, type KeyPair } from "./issue.ts";
import { hasIssued, type TlsState, type TlsTexts } from "./tls-state.ts";

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

const servingLifetimeMs = 90 * dayMs;
const authorityLifetimeMs = 2 * 365 * dayMs;

/** Certificates begin in the past, for clients whose clocks are late. */
const backdatingMs = hourMs;

/** Time for what was missed: a clock that was set right, a timer that slept with the machine. */
const maxWaitMs = 12 * hourMs;

/** What is to be done about Coral's certificates. */
export type Due =
  | { readonly act: "wait"; readonly forMs: number }
  | {
      readonly act: "renew";
      readonly authority: boolean;
      readonly serving: boolean;
      /** For the log. */
      readonly why: string;
    };

export interface DueInput {
  readonly now: Date;
  /** The names under which clients know us. */
  readonly dnsNames: readonly string[];
}

/**
 * Decides which certificates are due: those that are not in order, and those with a third of their
 * time left. With neither, the authorities that nothing alive is signed by leave the bundle.
 *
 * One that is not good yet is kept: a clock is wrong, ours or that of the replica that made it, and
 * two replicas that replaced each other's certificates would never end.
 */
export function certificateDue(state: TlsState, { now, dnsNames }: DueInput): Due {
  const { signer, serving, problems } = state;
  const whyAuthority = signer ? lateness(signer.certificate, now) : "no authority can sign";
  const missing = serving && dnsNames.find((name) => serving.leaf.checkHost(name) === undefined);
  const whyServing = !serving
    ? "there is no certificate to serve"
    : missing !== undefined
      ? `the certificate is not good for ${missing}`
      : (lateness(serving.leaf, now) ?? orphanhood(state, now));
  const reasons = [whyAuthority && `authority: ${whyAuthority}`, whyServing, ...problems];
  const why = reasons.filter((reason) => reason !== undefined).join("; ");
  if (whyAuthority !== undefined || whyServing !== undefined) {
    const authority = whyAuthority !== undefined;
    return { act: "renew", authority, serving: whyServing !== undefined, why };
  }
  if (trusted(state, now).length < state.authorities.length) {
    const why = "an authority has nothing alive to vouch for";
    return { act: "renew", authority: false, serving: false, why };
  }
  const dates = [signer?.certificate, serving?.leaf].flatMap((certificate) =>
    certificate ? [renewalTime(certificate)] : [],
  );
  const ends = state.authorities.map((authority) => trustEnd(authority, state));
  const forMs = Math.min(...dates, ...ends) - now.getTime();
  return { act: "wait", forMs: Math.min(Math.max(forMs, 1_000), maxWaitMs) };
}

/**
 * Makes what is due. While an authority can still sign, it signs also what is made together with
 * its successor: by the time that the successor signs, clients have known it for weeks.
 */
export function renew(
  state: TlsState,
  { authority, serving }: Extract<Due, { act: "renew" }>,
  { now, dnsNames }: DueInput,
): TlsTexts {
  const kept = trusted(state, now);
  const { signer } = state;
  const canSign = signer !== undefined && signer.certificate.validToDate > now;
  const old = canSign ? { cert: signer.certificate.toString(), key: signer.key } : undefined;
  const newest =
    old && !authority ? old : issueAuthority(validity(now, now.getTime() + authorityLifetimeMs));
  const served =
    serving || !state.serving ? issueFor(old ?? newest, { now, dnsNames }) : state.serving;
  const others = kept.map((certificate) => certificate.toString());
  return {
    "tls.crt": served.cert,
    "tls.key": served.key,
    "ca.crt": [...new Set([newest.cert, ...others])].join(""),
    "ca.key": newest.key,
  };
}

/** The authorities that clients must still know. */
function trusted(state: TlsState, now: Date): X509Certificate[] {
  return state.authorities.filter((authority) => trustEnd(authority, state) > now.getTime());
}

/**
 * Until when an authority may have signed something that is served: to its end, if it signs or has
 * signed what is served now, else until all that it signed before its successor came is over.
 */
function trustEnd(authority: X509Certificate, { signer, serving }: TlsState): number {
  const endMs = authority.validToDate.getTime();
  const isUsed = serving !== undefined && hasIssued(authority, serving.leaf);
  if (isUsed || !signer || signer.certificate === authority) return endMs;
  const succeededMs = signer.certificate.validFromDate.getTime() + backdatingMs;
  return Math.min(endMs, succeededMs + servingLifetimeMs);
}

function orphanhood(state: TlsState, now: Date): string | undefined {
  const isVouchedFor = trusted(state, now).some(
    (authority) => state.serving && hasIssued(authority, state.serving.leaf),
  );
  return isVouchedFor ? undefined : "the authority of what is served has expired";
}

function lateness(certificate: X509Certificate, now: Date): string | undefined {
  if (certificate.validToDate <= now) return "it has expired";
  return renewalTime(certificate) <= now.getTime() ? "a third of its time is left" : undefined;
}

function renewalTime({ validFromDate, validToDate }: X509Certificate): number {
  const endMs = validToDate.getTime();
  return endMs - (endMs - validFromDate.getTime()) / 3;
}

function issueFor(authority: KeyPair, { now, dnsNames }: DueInput): KeyPair {
  const endMs = new X509Certificate(authority.cert).validToDate.getTime();
  const notAfterMs = Math.min(now.getTime() + servingLifetimeMs, endMs);
  return issueServing(authority, { ...validity(now, notAfterMs), dnsNames });
}

function validity(now: Date, notAfterMs: number): { notBefore: Date; notAfter: Date } {
  return { notBefore: new Date(now.getTime() - backdatingMs), notAfter: new Date(notAfterMs) };
}
