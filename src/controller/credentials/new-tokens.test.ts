import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { ManualClock } from "#test/manual-clock.ts";
import { NewTokens } from "./new-tokens.ts";

/** How many of a flood from these addresses, in turns, are reviewed at once. */
function reviewedOf(newTokens: NewTokens, addresses: readonly string[]): number {
  let reviewed = 0;
  for (let turn = 0; turn < 1_000; turn++) {
    for (const address of addresses) if (newTokens.tryTake(address)) reviewed++;
  }
  return reviewed;
}

describe("NewTokens", () => {
  test("leaves the most to others when one address sends many", async () => {
    const clock = new ManualClock();
    const newTokens = new NewTokens(clock);
    assert.equal(reviewedOf(newTokens, ["10.0.0.1"]), 40);
    assert.equal(newTokens.tryTake("10.0.0.2"), true);
    await clock.advance(1_000);
    assert.equal(reviewedOf(newTokens, ["10.0.0.1"]), 10);
  });

  test("limits all addresses together", () => {
    const newTokens = new NewTokens(new ManualClock());
    const addresses = Array.from({ length: 50 }, (_, host) => `10.0.0.${host}`);
    assert.equal(reviewedOf(newTokens, addresses), 200);
  });

  const same: Record<string, [string, string]> = {
    "an IPv4 address and its form in IPv6": ["10.0.0.1", "::ffff:10.0.0.1"],
    "two addresses of one IPv6 network": ["2001:db8::1", "2001:db8::2:0:0:1"],
    "a short and a long form": ["2001:db8:0:1::5", "2001:db8:0:1:2:3:4:5"],
  };
  for (const [what, addresses] of Object.entries(same)) {
    test(`takes ${what} for one sender`, () => {
      assert.equal(reviewedOf(new NewTokens(new ManualClock()), addresses), 40);
    });
  }

  test("takes two IPv6 networks for two senders", () => {
    const newTokens = new NewTokens(new ManualClock());
    assert.equal(reviewedOf(newTokens, ["2001:db8:0:1::1", "2001:db8:0:2::1"]), 80);
  });
});
