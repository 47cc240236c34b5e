import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { KubeClient, RawAnswer, RawRequest } from "#kube/client.ts";
import { isJsonObject, type JsonObject } from "#json/json.ts";
import { agentAccount as account, anAgentToken } from "#test/agent-token.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { callerOf, TokenReviewer } from "./token-review.ts";

const agent = "system:serviceaccount:coral-system:coral-agent";
const nodeName = "authentication.kubernetes.io/node-name";

function aReview(user: JsonObject = {}, status: JsonObject = {}): JsonObject {
  return {
    authenticated: true,
    audiences: ["coral"],
    user: { username: agent, extra: { [nodeName]: ["node1"] }, ...user },
    ...status,
  };
}

const address = "10.0.0.1";
const isReplica = (from: string): boolean => from === "10.0.0.9";

/** The header with a token of this signature. */
function bearer(signature: string): string {
  return `Bearer ${anAgentToken({}, signature)}`;
}

/** Reviews by the signature's own word: `good-…` is good. */
class Reviews {
  readonly tokens: string[] = [];
  answer: ((token: string) => Promise<RawAnswer>) | undefined;

  readonly client: Pick<KubeClient, "request"> = {
    request: async ({ method, path, body }: RawRequest) => {
      assert.equal(`${method} ${path}`, "POST /apis/authentication.k8s.io/v1/tokenreviews");
      const spec = isJsonObject(body) && isJsonObject(body["spec"]) ? body["spec"] : {};
      assert.deepEqual(spec["audiences"], ["coral"]);
      const token = String(spec["token"]);
      this.tokens.push(token);
      if (this.answer) return this.answer(token);
      const signature = Buffer.from(token.split(".")[2] ?? "", "base64url").toString();
      const isGood = signature.startsWith("good");
      const status = isGood ? aReview() : { authenticated: false, error: "no" };
      return { status: 201, body: { kind: "TokenReview", status } };
    },
  };
}

function aReviewer(): { reviews: Reviews; reviewer: TokenReviewer; clock: ManualClock } {
  const reviews = new Reviews();
  const clock = new ManualClock();
  const reviewer = new TokenReviewer({ ...account, client: reviews.client, clock, isReplica });
  return { reviews, reviewer, clock };
}

describe("callerOf()", () => {
  test("is the node of Coral's agent", () => {
    assert.deepEqual(callerOf(aReview(), account), { node: "node1" });
  });

  const refused: Record<string, [number, JsonObject | undefined]> = {
    "no review": [503, undefined],
    "a token that is not good": [401, { authenticated: false, error: "expired" }],
    "a token of which nothing is said": [401, {}],
    "a token for the API server": [401, aReview({}, { audiences: ["https://kubernetes"] })],
    "a review without audiences": [401, aReview({}, { audiences: undefined })],
    "a review without a user": [401, aReview({}, { user: undefined })],
    "another account": [403, aReview({ username: "system:serviceaccount:team:coral-agent" })],
    "a name that only begins so": [403, aReview({ username: `${agent}-x` })],
    "a node": [403, aReview({ username: "system:node:node1" })],
    "a token that is bound to no node": [403, aReview({ extra: {} })],
    "a user without claims": [403, aReview({ extra: undefined })],
    "two nodes": [403, aReview({ extra: { [nodeName]: ["node1", "node2"] } })],
    "an empty node": [403, aReview({ extra: { [nodeName]: [""] } })],
    "a node that is no text": [403, aReview({ extra: { [nodeName]: [1] } })],
    "a node that is no list": [403, aReview({ extra: { [nodeName]: "node1" } })],
  };
  for (const [what, [status, review]] of Object.entries(refused)) {
    test(`refuses ${what} with ${status}`, () => {
      const caller = callerOf(review, account);
      assert.equal("status" in caller && caller.status, status);
    });
  }
});

describe("TokenReviewer", () => {
  test("asks once for requests that come together, and again after a minute", async () => {
    const { reviews, reviewer, clock } = aReviewer();
    const ask = async (): Promise<unknown> => reviewer.identify(bearer("good-1"), address);
    const node = { node: "node1" };
    assert.deepEqual(await Promise.all([ask(), ask(), ask()]), [node, node, node]);
    await clock.advance(59_999);
    await ask();
    assert.equal(reviews.tokens.length, 1);
    await clock.advance(1);
    await ask();
    assert.equal(reviews.tokens.length, 2);
  });

  test("keeps a verdict no longer when the clock is set back", async () => {
    const reviews = new Reviews();
    let now = new Date("2026-01-01T12:00:00Z");
    const clock = { now: () => now, sleep: async () => {} };
    const reviewer = new TokenReviewer({ ...account, client: reviews.client, clock, isReplica });
    await reviewer.identify(bearer("good-1"), address);
    now = new Date("2026-01-01T11:00:00Z");
    await reviewer.identify(bearer("good-1"), address);
    assert.equal(reviews.tokens.length, 2);
  });

  test("remembers a bad token for seconds", async () => {
    const { reviews, reviewer, clock } = aReviewer();
    for (const afterMs of [0, 4_999, 1]) {
      await clock.advance(afterMs);
      const caller = await reviewer.identify(bearer("bad"), address);
      assert.equal("status" in caller && caller.status, 401);
    }
    assert.equal(reviews.tokens.length, 2);
  });

  const noToken = [undefined, "", "Bearer", "Bearer ", "Basic Y29yYWw6cmVlZg==", "Bearer a b"];
  for (const header of [...noToken, `Bearer ${"a".repeat(20_000)}`, "Bearer a\u0001"]) {
    test(`does not ask about ${JSON.stringify(header)?.slice(0, 40)}`, async () => {
      const { reviews, reviewer } = aReviewer();
      const caller = await reviewer.identify(header, address);
      assert.equal("status" in caller && caller.status, 401);
      assert.equal(reviews.tokens.length, 0);
    });
  }

  test("answers 503 when the API server fails, and asks it again at once", async () => {
    const { reviews, reviewer } = aReviewer();
    const failures: (() => Promise<RawAnswer>)[] = [
      async () => ({ status: 500, body: { status: aReview() } }),
      async () => ({ status: 403, body: { kind: "Status", status: "Failure" } }),
      async () => ({ status: 201, body: "not JSON" }),
      async () => Promise.reject(new Error("unreachable")),
    ];
    for (const answer of failures) {
      reviews.answer = answer;
      const caller = await reviewer.identify(bearer("good-1"), address);
      assert.equal("status" in caller && caller.status, 503);
    }
    reviews.answer = undefined;
    assert.deepEqual(await reviewer.identify(bearer("good-1"), address), { node: "node1" });
  });

  test("a flood of bad tokens neither reaches the API server nor holds back anybody else", async () => {
    const { reviews, reviewer, clock } = aReviewer();
    await reviewer.identify(bearer("good-1"), address);
    await clock.advance(60_000);
    const statuses = new Map<unknown, number>();
    for (let i = 0; i < 5_000; i++) {
      const caller = await reviewer.identify(bearer(`bad-${i}`), address);
      const status = "status" in caller && caller.status;
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }
    assert.deepEqual(Object.fromEntries(statuses), { 401: 40, 503: 4_960 });
    const node = { node: "node1" };
    assert.deepEqual(await reviewer.identify(bearer("good-1"), address), node, "known before");
    assert.deepEqual(await reviewer.identify(bearer("good-2"), "10.0.0.2"), node, "from elsewhere");
    assert.equal(reviews.tokens.length, 43);
    await clock.advance(1_000);
    assert.deepEqual(await reviewer.identify(bearer("good-3"), address), node);
  });

  test("what a replica passes on is not bounded as one agent's tokens are", async () => {
    const { reviewer } = aReviewer();
    for (let agent = 0; agent < 150; agent++) {
      const caller = await reviewer.identify(bearer(`good-${agent}`), "::ffff:10.0.0.9");
      assert.deepEqual(caller, { node: "node1" });
    }
  });

  test("strangers hold back no new token from where a good one came", async () => {
    const { reviewer } = aReviewer();
    await reviewer.identify(bearer("good-1"), address);
    for (let i = 0; i < 500; i++) await reviewer.identify(bearer(`bad-${i}`), `10.9.0.${i % 50}`);
    assert.deepEqual(await reviewer.identify(bearer("good-2"), address), { node: "node1" });
  });

  // Junk took the reviews of agents that had just been given a new token.
  test("what cannot be an agent's token takes no review from those that can", async () => {
    const { reviews, reviewer } = aReviewer();
    for (let i = 0; i < 500; i++) {
      const junk = anAgentToken({ aud: [`aud-${i}`] });
      for (const token of [`junk-${i}`, junk]) {
        const caller = await reviewer.identify(`Bearer ${token}`, address);
        assert.equal("status" in caller && caller.status, 401);
      }
    }
    assert.equal(reviews.tokens.length, 0);
    assert.deepEqual(await reviewer.identify(bearer("good-1"), address), { node: "node1" });
  });
});
