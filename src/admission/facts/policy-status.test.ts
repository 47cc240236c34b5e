import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { ImagePolicy, ImagePolicyStatus } from "#api/v1/image-policy.ts";
import { aPolicy } from "#test/pod-facts.ts";
import { policyStatusOf } from "./policy-status.ts";

const now = new Date("2026-01-01T00:00:00Z");
const later = new Date("2026-01-01T01:00:00Z");
const off = { alwaysPulls: false, now };
const on = { alwaysPulls: true, now };

function withStatus(policy: ImagePolicy, facts = off): ImagePolicy & { status: ImagePolicyStatus } {
  const status = policyStatusOf(policy, facts);
  assert.ok(status);
  return { ...policy, status };
}

function conditionOf(policy: ImagePolicy, type: string) {
  return policy.status?.conditions?.find((condition) => condition.type === type);
}

describe("policyStatusOf()", () => {
  test("says that a policy works, and of which generation that is", () => {
    const policy = withStatus(aPolicy("p", {}, { generation: 7 }));

    assert.equal(policy.status.observedGeneration, 7);
    assert.deepEqual(conditionOf(policy, "Ready"), {
      type: "Ready",
      status: "True",
      reason: "InForce",
      message: "It decides about the images that it selects",
      observedGeneration: 7,
      lastTransitionTime: "2026-01-01T00:00:00Z",
    });
  });

  test("says what is wrong, in few and short words", () => {
    const images = Array.from({ length: 9 }, (_, index) => `${"x".repeat(400)}${index}`);
    const ready = conditionOf(withStatus(aPolicy("p", { images })), "Ready");

    assert.equal(ready?.status, "False");
    assert.equal(ready?.reason, "Invalid");
    assert.match(
      ready?.message ?? "",
      /^It is ignored as a whole: spec\.images\[0\]: "x+" must .*; 6 more$/,
    );
    assert.ok((ready?.message.length ?? 0) < 1_000);
  });

  test("is not written again while nothing differs", () => {
    const policy = withStatus(aPolicy("p", { pullPolicy: "Never" }), on);

    assert.equal(policyStatusOf(policy, { ...on, now: later }), undefined);
  });

  test("is written for each generation", () => {
    const policy = withStatus(aPolicy("p"));
    const changed = { ...policy, metadata: { ...policy.metadata, generation: 2 } };

    const status = policyStatusOf(changed, { ...off, now: later });
    assert.equal(status?.observedGeneration, 2);
    assert.equal(status?.conditions?.[0]?.lastTransitionTime, "2026-01-01T00:00:00Z");
  });

  test("says that pull policies are ignored, while they are and the policy sets one", () => {
    const policy = withStatus(aPolicy("p", { pullPolicy: "Never" }), on);
    assert.equal(conditionOf(policy, "PullPoliciesIgnored")?.status, "True");
    assert.match(conditionOf(policy, "PullPoliciesIgnored")?.message ?? "", /AlwaysPullImages/);

    assert.equal(conditionOf(withStatus(policy, off), "PullPoliciesIgnored"), undefined);
    const unchanged = withStatus(aPolicy("p", { pullPolicy: "Unchanged" }), on);
    assert.equal(conditionOf(unchanged, "PullPoliciesIgnored"), undefined);
  });

  test("keeps conditions of others", () => {
    const foreign = {
      type: "Reviewed",
      status: "True",
      reason: "ByHand",
      message: "",
      lastTransitionTime: "2025-01-01T00:00:00Z",
    } as const;
    const policy = withStatus({ ...aPolicy("p"), status: { conditions: [foreign] } });

    assert.deepEqual(conditionOf(policy, "Reviewed"), foreign);
  });
});
