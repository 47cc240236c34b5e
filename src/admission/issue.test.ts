import assert from "node:assert/strict";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { issueAuthority, issueServing } from "./issue.ts";

const notBefore = new Date("2026-01-01T00:00:00.750Z");
const notAfter = new Date("2028-01-01T00:00:00Z");

describe("issueAuthority()", () => {
  test("makes a certificate that signs itself, for certificates alone", () => {
    const { cert, key } = issueAuthority({ notBefore, notAfter });
    const authority = new X509Certificate(cert);

    assert.ok(authority.ca);
    assert.ok(authority.checkIssued(authority) && authority.verify(authority.publicKey));
    assert.ok(authority.checkPrivateKey(createPrivateKey(key)));
    assert.equal(authority.publicKey.asymmetricKeyDetails?.namedCurve, "prime256v1");
    assert.equal(authority.validFromDate.toISOString(), "2026-01-01T00:00:00.000Z");
    assert.equal(authority.validToDate.toISOString(), notAfter.toISOString());
  });

  test("makes no two with one name, number or key", () => {
    const made = Array.from(
      { length: 20 },
      () => new X509Certificate(issueAuthority({ notBefore, notAfter }).cert),
    );

    for (const field of ["subject", "serialNumber", "fingerprint256"] as const) {
      assert.equal(new Set(made.map((each) => each[field])).size, made.length);
    }
    assert.ok(
      made.every(({ serialNumber }) => /^[4-7]/.test(serialNumber)),
      "never negative",
    );
  });
});

describe("issueServing()", () => {
  const authority = issueAuthority({ notBefore, notAfter });

  test("makes a certificate that its authority alone vouches for, for its names alone", () => {
    const dnsNames = ["coral.coral-system.svc", "coral.coral-system"];
    const { cert, key } = issueServing(authority, { notBefore, notAfter, dnsNames });
    const leaf = new X509Certificate(cert);
    const issuer = new X509Certificate(authority.cert);
    const other = new X509Certificate(issueAuthority({ notBefore, notAfter }).cert);

    assert.ok(leaf.checkIssued(issuer) && leaf.verify(issuer.publicKey));
    assert.equal(leaf.checkIssued(other), false);
    assert.ok(leaf.checkPrivateKey(createPrivateKey(key)));
    assert.equal(leaf.ca, false);
    assert.equal(leaf.subjectAltName, dnsNames.map((name) => `DNS:${name}`).join(", "));
    assert.equal(leaf.checkHost("coral"), undefined);
    assert.deepEqual(leaf.keyUsage, ["1.3.6.1.5.5.7.3.1"], "a server's");
  });

  test("is right about every moment, also beyond 2049", () => {
    const second = fc.date({
      min: new Date("2000-01-01"),
      max: new Date("2099-12-31"),
      noInvalidDate: true,
    });
    const property = fc.property(second, (date) => {
      const validity = { notBefore: date, notAfter: date };
      const leaf = new X509Certificate(
        issueServing(authority, { ...validity, dnsNames: ["a"] }).cert,
      );
      const seconds = Math.floor(date.getTime() / 1_000);
      assert.equal(leaf.validFromDate.getTime() / 1_000, seconds);
      assert.equal(leaf.validToDate.getTime() / 1_000, seconds);
    });
    fc.assert(property, { numRuns: 50 });
  });

  test("says so if the authority is none", () => {
    const dnsNames = ["a"];
    const broken = { cert: "x", key: authority.key };
    assert.throws(() => issueServing(broken, { notBefore, notAfter, dnsNames }));
  });
});
