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

function aLimit({ clock = new ManualClock(), replica = "" } = {}): NewTokens {
  return new NewTokens({ clock, isReplica: (address) => address === replica });
}

describe("NewTokens", () => {
  test("leaves the most to others when one address sends many", async () => {
    const clock = new ManualClock();
    const newTokens = aLimit({ clock });
    assert.equal(reviewedOf(newTokens, ["10.0.0.1"]), 40);
    assert.equal(newTokens.tryTake("10.0.0.2"), true);
    await clock.advance(1_000);
    assert.equal(reviewedOf(newTokens, ["10.0.0.1"]), 10);
  });

  test("limits all addresses together", () => {
    const addresses = Array.from({ length: 50 }, (_, host) => `10.0.0.${host}`);
    assert.equal(reviewedOf(aLimit(), addresses), 200);
  });

  test("takes an IPv4 address and its form in IPv6 for one sender", () => {
    assert.equal(reviewedOf(aLimit(), ["10.0.0.1", "::ffff:10.0.0.1"]), 40);
  });

  // Nodes of a cloud share a /64: one pod used up what all others could send.
  test("takes two addresses of one IPv6 network for two senders", () => {
    const newTokens = aLimit();
    reviewedOf(newTokens, ["2600:1f14:aaaa:bb00:1111::5"]);
    assert.equal(newTokens.tryTake("2600:1f14:aaaa:bb00:2222::7"), true);
  });

  test("a sender gets its token back when there is none left for all", async () => {
    const clock = new ManualClock();
    const newTokens = aLimit({ clock });
    reviewedOf(
      newTokens,
      Array.from({ length: 50 }, (_, host) => `10.0.0.${host}`),
    );
    reviewedOf(newTokens, ["10.0.1.1"]);
    await clock.advance(4_000);
    assert.equal(reviewedOf(newTokens, ["10.0.1.1"]), 40);
  });

  // After a rollout of the controller, agents behind one replica lost their slots.
  test("agents whose requests one replica passes on are all known within the 40 s of a slot", async () => {
    const clock = new ManualClock();
    const newTokens = aLimit({ clock, replica: "10.1.2.3" });
    const waiting = new Set(Array.from({ length: 500 }, (_, agent) => agent));
    for (let second = 0; second < 40; second++) {
      for (const agent of waiting) {
        if (newTokens.tryTake("::ffff:10.1.2.3")) waiting.delete(agent);
      }
      await clock.advance(1_000);
    }
    assert.equal(waiting.size, 0);
  });

  test("strangers keep no new token of a sender waiting whose token was good before", async () => {
    const clock = new ManualClock();
    const newTokens = aLimit({ clock });
    newTokens.welcome("10.1.0.1");
    const strangers = Array.from({ length: 50 }, (_, pod) => `10.9.0.${pod}`);
    for (let tick = 0; tick < 10; tick++) {
      for (const stranger of strangers) while (newTokens.tryTake(stranger));
      assert.equal(newTokens.tryTake("10.1.0.1"), true);
      await clock.advance(100);
    }
    await clock.advance(2 * 3_600_000);
    for (const stranger of strangers) while (newTokens.tryTake(stranger));
    assert.equal(newTokens.tryTake("10.1.0.1"), false, "known for two hours");
  });
});
