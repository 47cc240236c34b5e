import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { LabelSelector } from "#kube/types.ts";
import { configurationPatch } from "./webhook-configuration.ts";

const metadata = { name: "coral-validation" };

/** What a webhook with a selector gets instead of it; `undefined` if it stays. */
function selectorAfter(
  objectSelector: LabelSelector | undefined,
  isAsked: boolean,
): LabelSelector | undefined {
  const webhook = { name: "a", clientConfig: {}, ...(objectSelector && { objectSelector }) };
  const [, change] = configurationPatch({ metadata, webhooks: [webhook] }, () => ({ isAsked }));
  return typeof change?.value === "object" ? change.value : undefined;
}

describe("configurationPatch()", () => {
  test("changes what differs, if it still is the webhook it was", () => {
    const webhooks = ["a", "b"].map((name) => ({
      name,
      clientConfig: name === "a" ? { caBundle: "new" } : {},
    }));

    assert.deepEqual(
      configurationPatch({ metadata, webhooks }, () => ({ caBundle: "new" })),
      [
        { op: "test", path: "/webhooks/1/name", value: "b" },
        { op: "add", path: "/webhooks/1/clientConfig/caBundle", value: "new" },
      ],
    );
    assert.deepEqual(
      configurationPatch({ metadata }, () => ({ caBundle: "new" })),
      [],
    );
  });

  test("has a webhook asked of no object, or of every one, and writes it once", () => {
    const none = selectorAfter(undefined, false);

    assert.deepEqual(none, {
      matchExpressions: [
        { key: "image.stvz.io/asked", operator: "Exists" },
        { key: "image.stvz.io/asked", operator: "DoesNotExist" },
      ],
    });
    assert.equal(selectorAfter(none, false), undefined);
    assert.deepEqual(selectorAfter(none, true), {});
    assert.equal(selectorAfter({}, true), undefined);
    assert.deepEqual(selectorAfter({ matchLabels: { a: "b" } }, true), {});
  });

  test("leaves alone what nothing is wished of", () => {
    const webhooks = [{ name: "a", clientConfig: {}, objectSelector: { matchLabels: { a: "b" } } }];

    assert.deepEqual(
      configurationPatch({ metadata, webhooks }, () => ({})),
      [],
    );
  });
});
