import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { Caller } from "#controller/credentials/token-review.ts";
import type { JsonAnswer } from "#http/json-client.ts";
import type { Reply } from "#http/router.ts";
import type { Node } from "#kube/types.ts";
import { silentLog } from "#telemetry/log.ts";
import { slotsRoutes } from "./endpoint.ts";
import { slotMs } from "./slot-table.ts";
import { Slots } from "./slots.ts";

const plan: ImagePlan = {
  metadata: { name: "tools", namespace: "team" },
  spec: {
    selector: [{ key: "zone", operator: "In", values: ["a"] }],
    priority: 0,
    maxConcurrentNodes: "50%",
    images: [],
  },
};
const tools = "team/tools";

interface World extends AsyncDisposable {
  caller: Caller;
  nowMs: number;
  leader: () => Promise<JsonAnswer | undefined>;
  readonly passedOn: unknown[];
  post(body: unknown, headers?: Record<string, string>): Promise<Reply>;
}

function aReplica({ leads }: { leads: boolean }): World {
  const stop = new AbortController();
  const slots = new Slots(() => world.nowMs);
  const nodes: Record<string, Node> = {
    node1: { metadata: { name: "node1", labels: { zone: "a" } } },
    node2: { metadata: { name: "node2", labels: { zone: "b" } } },
  };
  const routes = slotsRoutes({
    reviewer: { identify: async () => world.caller },
    slots,
    leader: {
      post: async (path, { body, authorization }) => {
        world.passedOn.push({ path, body, authorization });
        return world.leader();
      },
    },
    plans: { get: (key) => (key === tools ? plan : undefined), list: () => [plan] },
    nodes: {
      get: (key) => (typeof key === "string" ? nodes[key] : undefined),
      list: () => Object.values(nodes),
    },
    totalNodesOf: () => 3,
    log: silentLog,
  });
  const entry = routes["/v1/slots"];
  assert.ok(typeof entry === "object");
  const world: World = {
    caller: { node: "node1" },
    nowMs: 0,
    leader: async () => undefined,
    passedOn: [],
    post: async (body, headers = {}) => {
      assert.ok("admit" in entry);
      const route = await entry.admit({ headers, remoteAddress: "10.0.0.1" });
      return typeof route === "function" ? route({ body, headers, signal: stop.signal }) : route;
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
    },
  };
  if (leads) void slots.lead(stop.signal);
  return world;
}

function asking(part: object = {}): object {
  return { want: [tools], hold: [], sequence: 1, ...part };
}

function verdictOf({ status = 200, body }: Reply): unknown {
  assert.equal(status, 200, body);
  return JSON.parse(body);
}

describe("POST /v1/slots", () => {
  test("grants what the plan leaves to nodes that it is for", async () => {
    await using replica = aReplica({ leads: true });
    replica.nowMs += slotMs;
    const granted = { granted: true, retryAfterMs: 0, lost: [] };
    const denied = { granted: false, retryAfterMs: 2_000, lost: [] };
    assert.deepEqual(verdictOf(await replica.post(asking())), granted);
    replica.caller = { node: "node2" };
    assert.deepEqual(verdictOf(await replica.post(asking())), denied);
    const unknown = asking({ want: ["team/other"], sequence: 2 });
    assert.deepEqual(verdictOf(await replica.post(unknown)), denied);
  });

  test("refuses a request that was overtaken", async () => {
    await using replica = aReplica({ leads: true });
    await replica.post(asking({ sequence: 5 }));
    assert.equal((await replica.post(asking({ sequence: 5 }))).status, 409);
  });

  const bad: Record<string, [unknown, RegExp]> = {
    "no object": ["x", /^must be an object/],
    "no list": [{ hold: [] }, /^want: must be a list/],
    "a number": [asking({ hold: [1] }), /^hold\[0\]: must be a text/],
    "a long name": [asking({ want: ["x".repeat(400)] }), /^want\[0\]: .* at most 317 characters/],
    "too many": [asking({ want: Array(65).fill("a/b") }), /^want: has 65, must have at most 64/],
    "no sequence": [asking({ sequence: 1.5 }), /^sequence: must be a whole number/],
  };
  for (const [what, [body, expected]] of Object.entries(bad)) {
    test(`refuses ${what} and says what it should be`, async () => {
      await using replica = aReplica({ leads: true });
      const reply = await replica.post(body);
      assert.equal(reply.status, 400);
      assert.match(reply.body, expected);
    });
  }

  test("has the leader answer, and says what it says", async () => {
    await using replica = aReplica({ leads: false });
    replica.leader = async () => ({ status: 200, body: { granted: true } });
    const headers = { authorization: "Bearer token" };
    assert.deepEqual(verdictOf(await replica.post(asking(), headers)), { granted: true });
    assert.deepEqual(replica.passedOn, [
      { path: "/v1/slots", body: asking(), authorization: "Bearer token" },
    ]);
    replica.leader = async () => ({ status: 401, body: undefined });
    assert.equal((await replica.post(asking(), headers)).status, 401);
  });

  test("says 503 when there is no leader, when it does not answer, and to what was passed on", async () => {
    await using replica = aReplica({ leads: false });
    assert.equal((await replica.post(asking())).status, 503);
    replica.leader = async () => Promise.reject(new Error("away"));
    assert.equal((await replica.post(asking())).status, 503);
    const { length } = replica.passedOn;
    assert.equal((await replica.post(asking(), { "coral-forwarded-by": "other" })).status, 503);
    assert.equal(replica.passedOn.length, length);
  });

  test("passes nothing on for whom it does not know", async () => {
    await using replica = aReplica({ leads: false });
    replica.caller = { status: 401, message: "no" };
    assert.equal((await replica.post(asking())).status, 401);
    assert.deepEqual(replica.passedOn, []);
  });
});
