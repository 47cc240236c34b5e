import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { parseLogins } from "./logins.ts";
import { tokenRegistry } from "./registry-hosts.ts";

describe("parseLogins()", () => {
  test("reads back the logins of the token registry", () => {
    assert.deepEqual(parseLogins(JSON.stringify(tokenRegistry.logins)), tokenRegistry.logins);
  });

  test("refuses what is no table of logins", () => {
    for (const text of ["{}", "[null]", '[{"username":"a"}]', '[{"username":"a","password":1}]']) {
      assert.throws(() => parseLogins(text), TypeError, text);
    }
  });
});
