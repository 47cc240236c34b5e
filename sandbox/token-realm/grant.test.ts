import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { findLogin, grantedAccess, parseScope, type Access } from "./grant.ts";

const anna = { username: "anna", password: "a", path: "team-a", identityToken: "t" };
const ben = { username: "ben", password: "b" };

describe("parseScope()", () => {
  test("reads several, with a port in a name, and leaves out what is none", () => {
    assert.deepEqual(parseScope("repository:a/b:pull,push nonsense repository:h:5/c:pull"), [
      { type: "repository", name: "a/b", actions: ["pull", "push"] },
      { type: "repository", name: "h:5/c", actions: ["pull"] },
    ]);
    assert.deepEqual(parseScope(""), []);
  });
});

describe("findLogin()", () => {
  test("takes user name and password by header or form, and an identity token", () => {
    assert.equal(find("basic", "a", "anna"), anna);
    assert.equal(find("password", "b", "ben"), ben);
    assert.equal(find("refresh_token", "t"), anna);
  });

  test("refuses another's password, an unknown token, and a token in place of a password", () => {
    assert.equal(find("basic", "b", "anna"), undefined);
    assert.equal(find("refresh_token", "x"), undefined);
    assert.equal(find("basic", "t", "anna"), undefined);
    assert.equal(find("bearer", "t"), undefined);
  });
});

describe("grantedAccess()", () => {
  test("gives what is at and below the login's path, by whole parts of it", () => {
    const asked = ["team-a", "team-a/x", "team-ab/x", "team-b/x"].map(pull);
    assert.deepEqual(grantedAccess(asked, anna), [pull("team-a"), pull("team-a/x")]);
  });

  test("gives everything to a login without a path, but never more than to pull", () => {
    const asked = [{ ...pull("x"), actions: ["pull", "push", "*"] }];
    assert.deepEqual(grantedAccess(asked, ben), [pull("x")]);
    assert.deepEqual(grantedAccess([{ ...pull("catalog"), type: "registry" }], ben), []);
  });
});

function find(scheme: string, secret: string, username?: string): unknown {
  return findLogin({ scheme, secret, ...(username !== undefined && { username }) }, [anna, ben]);
}

function pull(name: string): Access {
  return { type: "repository", name, actions: ["pull"] };
}
