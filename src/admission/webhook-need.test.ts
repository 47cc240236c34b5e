import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { ImagePolicy, ImagePolicySpec } from "#api/v1/image-policy.ts";
import { aPolicy } from "#test/pod-facts.ts";
import { needOfPolicies, type WebhookNeed } from "./webhook-need.ts";

function needOf(...specs: Partial<ImagePolicySpec>[]): WebhookNeed {
  const policies: ImagePolicy[] = specs.map((spec, index) => aPolicy(`p${index}`, spec));
  return needOfPolicies({
    list: () => policies,
    onChange: () => ({ [Symbol.dispose]() {} }),
  });
}

describe("needOfPolicies()", () => {
  const all = "policies.stvz.io";
  const refusing = "pods-admit.stvz.io";

  test("says nothing of webhooks that are not for policies", () => {
    assert.equal(needOf().isNeeded("pods.stvz.io"), undefined);
    assert.equal(needOf({ mode: "Force" }).isNeeded("images.stvz.io"), undefined);
  });

  test("has pods without an annotation asked about while a policy forces something", () => {
    assert.equal(needOf().isNeeded(all), false);
    assert.equal(needOf({ mode: "Off" }, { mode: "OptIn" }).isNeeded(all), false);
    assert.equal(needOf({ mode: "Off" }, { mode: "Force" }).isNeeded(all), true);
    assert.equal(needOf({ mode: "Force", enforcement: "Audit" }).isNeeded(all), true);
  });

  test("has refusals asked for while a policy enforces them", () => {
    const admit = "OnlyAvailable";
    assert.equal(needOf({ mode: "Force" }).isNeeded(refusing), false);
    assert.equal(needOf({ mode: "Off", admit }).isNeeded(refusing), false);
    assert.equal(needOf({ mode: "Force", admit, enforcement: "Warn" }).isNeeded(refusing), false);
    assert.equal(needOf({ mode: "OptIn", admit }).isNeeded(refusing), true);
  });
});
