import { issueAuthority, issueServing } from "#admission/issue.ts";

const hourMs = 3_600_000;

/** A server's certificate for a DNS name, good from an hour ago for an hour, and its CA. All PEM. */
export function aCertificate(dnsName: string): { cert: string; key: string; ca: string } {
  const now = Date.now();
  const validity = { notBefore: new Date(now - hourMs), notAfter: new Date(now + hourMs) };
  const authority = issueAuthority(validity);
  return { ...issueServing(authority, { ...validity, dnsNames: [dnsName] }), ca: authority.cert };
}
