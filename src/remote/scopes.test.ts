import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { mergeScopes, repositoryScope } from "./scopes.ts";

describe("mergeScopes()", () => {
  test("joins what is wanted of one repository, and keeps others apart", () => {
    const scopes = [
      "repository:a/b:pull",
      "repository:c:pull",
      repositoryScope("a/b", "pull,push"),
    ];

    assert.deepEqual(mergeScopes(scopes), ["repository:a/b:pull,push", "repository:c:pull"]);
  });

  test("keeps a host's port and a class in the name", () => {
    const scopes = ["repository(plugin):a.test:5000/b:pull", "registry:catalog:*"];

    assert.deepEqual(mergeScopes(scopes), scopes);
  });

  test("leaves out what is no scope", () => {
    assert.deepEqual(mergeScopes(["", "pull", "repository:a:pull"]), ["repository:a:pull"]);
  });
});
