import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { AuditedRequest } from "#sandbox/audit-log.ts";
import { countRequests } from "./requests.ts";

const accounts = "system:serviceaccount:coral-system";

/** Answered 5 ms after it arrived. */
function asked(who: string, what: string, { time = 0, code = 200 } = {}): AuditedRequest {
  const [verb = "", resource = ""] = what.split(" ");
  const user = `${accounts}:coral-${who}`;
  return { user, verb, resource, code, time, answeredMs: time + 5 };
}

const fill = { name: "fill", startMs: 0, endMs: 1_000 };

describe("countRequests()", () => {
  test("tells writes from lists, leases, reviews and reads", async () => {
    const requests = [
      asked("agent", "create nodereports"),
      asked("agent", "patch nodereports/status"),
      asked("controller", "patch nodes"),
      asked("controller", "update leases"),
      asked("controller", "create tokenreviews"),
      asked("controller", "list pods"),
      asked("agent", "watch imageplans"),
      asked("agent", "get nodereports"),
    ];

    const counts = (await countRequests(requests, [fill])).get("fill");

    assert.deepEqual(
      [counts?.writes, counts?.agentWrites, counts?.lists, counts?.leases, counts?.reviews],
      [3, 2, 1, 1, 1],
    );
  });

  test("puts each request in the span in which it arrived, and others in none", async () => {
    const idle = { name: "idle", startMs: 2_000, endMs: 3_000 };
    const times = [-1, 0, 999, 1_000, 2_500];
    const requests = times.map((time) => asked("controller", "patch nodes", { time }));

    const counts = await countRequests(requests, [fill, idle]);

    assert.deepEqual([counts.get("fill")?.writes, counts.get("idle")?.writes], [2, 1]);
  });

  test("counts refused writes, knows the last report, and lists who asked what by how often", async () => {
    const requests = [
      asked("agent", "get nodereports", { code: 404 }),
      asked("agent", "patch nodereports/status", { time: 20 }),
      asked("agent", "patch nodereports/status", { time: 10 }),
      asked("agent", "patch nodereports/status", { time: 30, code: 429 }),
      asked("controller", "patch nodes", { time: 40 }),
    ];

    const counts = (await countRequests(requests, [fill])).get("fill");

    assert.deepEqual([counts?.refused, counts?.lastReportMs], [1, 25]);
    assert.deepEqual(
      counts?.lines().map((line) => line.trim()),
      [
        "3  coral-agent patch nodereports/status",
        "1  coral-agent get nodereports",
        "1  coral-controller patch nodes",
      ],
    );
  });
});
