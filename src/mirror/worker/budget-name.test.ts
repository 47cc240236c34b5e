import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { budgetNames } from "./budget-name.ts";

const anna = { username: "anna", password: "anemone" };

describe("budgetNames()", () => {
  test("gives each account its own name, and the same in every worker of a cluster", async () => {
    const host = "hub.test";
    const nameOf = budgetNames("c0ffee");
    const accounts = [
      { host, login: anna },
      { host, login: { password: "anemone", username: "anna" } },
      { host, login: undefined },
      { host, login: { ...anna, password: "other" } },
      { host, login: { identityToken: "anna" } },
      { host: "other.test", login: anna },
    ];

    const [first, same, ...others] = await Promise.all(accounts.map(nameOf));
    const elsewhere = await budgetNames("decaf")({ host, login: anna });

    assert.equal(first, same);
    assert.match(first ?? "", /^[0-9a-f]{32}$/);
    assert.equal(new Set([first, elsewhere, ...others]).size, 6);
  });
});
