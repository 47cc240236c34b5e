import assert from "node:assert/strict";
import { createPublicKey, verify } from "node:crypto";
import { describe, test } from "node:test";

import { generateTokenKey, signToken, tokenKeySet } from "./token.ts";

describe("signToken()", () => {
  test("makes a token that the key set verifies, good for a minute, with the access in it", () => {
    const keyPem = generateTokenKey();
    const access = [{ type: "repository", name: "a/b", actions: ["pull"] }];
    const token = signToken(keyPem, { access, subject: "anna", time: new Date(5_000) });
    const [header = "", claims = "", signature = ""] = token.split(".");
    const key = { key: createPublicKey(keyPem), dsaEncoding: "ieee-p1363" } as const;
    const signed = Buffer.from(`${header}.${claims}`);

    assert.ok(verify("sha256", signed, key, Buffer.from(signature, "base64url")));
    assert.deepEqual(JSON.parse(Buffer.from(claims, "base64url").toString()), {
      iss: "sandbox",
      sub: "anna",
      aud: "token.test",
      iat: 5,
      nbf: 5,
      exp: 65,
      access,
    });
  });
});

describe("tokenKeySet()", () => {
  test("holds the public half of the key alone", () => {
    assert.doesNotMatch(JSON.stringify(tokenKeySet(generateTokenKey())), /"d":/);
  });
});
