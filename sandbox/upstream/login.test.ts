import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { loginOfForm, loginOfHeader } from "./login.ts";

describe("loginOfHeader()", () => {
  test("reads user name and password, which may hold a colon", () => {
    assert.deepEqual(loginOfHeader(basic("anna:a:b")), {
      scheme: "basic",
      username: "anna",
      secret: "a:b",
    });
  });

  test("reads a bearer token", () => {
    assert.deepEqual(loginOfHeader("bearer abc"), { scheme: "bearer", secret: "abc" });
  });

  test("keeps what it cannot decode, so that no secret is overlooked", () => {
    assert.deepEqual(loginOfHeader(basic("no colon"))?.username, undefined);
    assert.deepEqual(loginOfHeader("Digest a=b"), { scheme: "digest", secret: "a=b" });
    assert.deepEqual(loginOfHeader("lonely"), { scheme: "lonely", secret: "" });
  });

  test("finds nothing where nothing was sent", () => {
    assert.equal(loginOfHeader(undefined), undefined);
  });
});

describe("loginOfForm()", () => {
  test("reads both grants of OAuth 2 that registries' clients use", () => {
    assert.deepEqual(read("grant_type=password&username=anna&password=a%26b"), {
      scheme: "password",
      username: "anna",
      secret: "a&b",
    });
    assert.deepEqual(read("grant_type=refresh_token&refresh_token=t"), {
      scheme: "refresh_token",
      secret: "t",
    });
  });

  test("finds nothing in another form", () => {
    assert.equal(read("a=b"), undefined);
  });
});

function basic(text: string): string {
  return `Basic ${Buffer.from(text).toString("base64")}`;
}

function read(form: string): unknown {
  return loginOfForm(new URLSearchParams(form));
}
