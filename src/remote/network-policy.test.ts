import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { networkPolicy } from "./network-policy.ts";

describe("networkPolicy()", () => {
  const policy = networkPolicy({ deniedNetworks: ["10.96.0.0/12", "fd12::/16"] });

  for (const address of [
    "127.0.0.1",
    "127.9.9.9",
    "::1",
    "0.0.0.0",
    "::",
    "169.254.169.254",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:169.254.169.254",
    "0:0:0:0:0:ffff:a9fe:a9fe",
    "::127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "10.96.0.1",
    "10.111.255.255",
    "::ffff:10.96.0.1",
    "fd12:3::4",
    "registry.test",
    "127.1",
    "",
  ]) {
    test(`denies "${address}"`, () => {
      assert.equal(policy.allows(address), false);
    });
  }

  for (const address of [
    "10.95.255.255",
    "10.112.0.1",
    "192.168.1.1",
    "140.82.112.3",
    "2606:50c0::1",
    "fd00:ec2::253",
    "::ffff:140.82.112.3",
  ]) {
    test(`allows "${address}"`, () => {
      assert.equal(policy.allows(address), true);
    });
  }

  test("allows exceptions, and nothing else beside them", () => {
    const policy = networkPolicy({
      deniedNetworks: ["10.0.0.0/8"],
      allowedNetworks: ["127.0.0.1/32", "10.1.0.0/16"],
    });

    assert.equal(policy.allows("127.0.0.1"), true);
    assert.equal(policy.allows("::ffff:127.0.0.1"), true);
    assert.equal(policy.allows("127.0.0.2"), false);
    assert.equal(policy.allows("10.1.2.3"), true);
    assert.equal(policy.allows("10.2.2.3"), false);
  });

  for (const network of [
    "",
    "10.0.0.0",
    "10.0.0.0/33",
    "fd00::/129",
    "a.test/8",
    "10.0.0.0/8/8",
    "10.0.0.0/-1",
  ]) {
    test(`refuses "${network}", which is no network`, () => {
      assert.throws(() => networkPolicy({ deniedNetworks: [network] }), {
        name: "TypeError",
        message: /must be a network like/,
      });
    });
  }
});
