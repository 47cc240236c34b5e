import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { agentsOnly } from "./agents-only.ts";
import type { Caller } from "./token-review.ts";

const head = { headers: { authorization: "Bearer x" }, remoteAddress: "10.0.0.1" };
const request = { body: {}, headers: head.headers, signal: new AbortController().signal };

function aReviewer(caller: Caller): {
  asked: unknown[];
  identify: (authorization: string | undefined, remoteAddress: string) => Promise<Caller>;
} {
  const asked: unknown[] = [];
  return {
    asked,
    identify: async (...question) => {
      asked.push(question);
      return caller;
    },
  };
}

describe("agentsOnly()", () => {
  // A token was reviewed before its request's body was read, and once more afterwards.
  test("identifies an agent once, and hands its node on", async () => {
    const reviewer = aReviewer({ node: "node1" });
    const route = await agentsOnly(reviewer, async (node) => ({ body: node }))(head);

    assert.ok(typeof route === "function");
    assert.deepEqual(await route(request), { body: "node1" });
    assert.deepEqual(reviewer.asked, [["Bearer x", "10.0.0.1"]]);
  });

  test("refuses everybody else, with the status of the review", async () => {
    const reviewer = aReviewer({ status: 403, message: "no" });
    const admit = agentsOnly(reviewer, async () => ({ body: "secret" }));
    assert.deepEqual(await admit(head), { status: 403, body: "no\n" });
  });
});
