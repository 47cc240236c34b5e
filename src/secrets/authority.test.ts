import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { aCertificate } from "#test/certificates.ts";
import { parseAuthority } from "./authority.ts";

const pem = aCertificate("registry.test").ca;

describe("parseAuthority()", () => {
  test("gives certificates as they stand there, however many", () => {
    const bundle = `# ours\n${pem}\n${pem}`;

    assert.deepEqual(parseAuthority({ "ca.crt": btoa(bundle) }), { pem: bundle });
  });

  const most = 256 * 1024;
  const refused: Record<string, Record<string, string> | undefined> = {
    "must not be empty": { "ca.crt": "" },
    "must hold certificates in PEM": { "ca.crt": btoa("hush") },
    "must have at most 262144 bytes": { "ca.crt": btoa(pem.padEnd(most + 1, "\n")) },
  };
  for (const [why, data] of Object.entries(refused)) {
    test(`says that it ${why}, and nothing of what it holds`, () => {
      assert.deepEqual(parseAuthority(data), { problem: `data["ca.crt"] ${why}` });
    });
  }

  test("says that it must not be empty where there is none", () => {
    const none = { problem: 'data["ca.crt"] must not be empty' };

    assert.deepEqual(parseAuthority({ "tls.crt": btoa(pem) }), none);
    assert.deepEqual(parseAuthority(), none);
  });

  test("takes as much as it may have", () => {
    const whole = pem.padEnd(most, "\n");

    assert.deepEqual(parseAuthority({ "ca.crt": btoa(whole) }), { pem: whole });
  });

  test("throws at nothing, and takes nothing that is no certificate", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        assert.ok("problem" in parseAuthority({ "ca.crt": text }));
      }),
    );
  });
});
