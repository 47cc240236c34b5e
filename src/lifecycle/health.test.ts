import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Health } from "./health.ts";

describe("Health", () => {
  test("is ready once every check is content", () => {
    const health = new Health(new AbortController().signal);
    let problem: string | undefined = "not synced";
    health.requireForReadiness("images", () => problem);

    assert.deepEqual(health.ready(), {
      isOk: false,
      lines: ["[+]draining ok", "[-]images not synced"],
    });
    problem = undefined;
    assert.equal(health.ready().isOk, true);
  });

  test("has started when it is ready, or has run for a minute", () => {
    let uptimeMs = 59_999;
    let problem: string | undefined = "not synced";
    const health = new Health(new AbortController().signal, () => uptimeMs);
    health.requireForReadiness("images", () => problem);
    assert.equal(health.started().isOk, false);

    problem = undefined;
    assert.equal(health.started().isOk, true);
    problem = "not synced";
    uptimeMs = 60_000;
    assert.deepEqual(health.started(), { ...health.ready(), isOk: true });
  });

  test("is no longer ready, but alive, when it is asked to stop", () => {
    const stop = new AbortController();
    const health = new Health(stop.signal);
    stop.abort();

    assert.equal(health.ready().isOk, false);
    assert.equal(health.live().isOk, true);
  });

  test("is not alive while a liveness check complains", () => {
    const health = new Health(new AbortController().signal);
    health.requireForLiveness("queue", () => "stuck for 10 minutes");

    assert.deepEqual(health.live(), { isOk: false, lines: ["[-]queue stuck for 10 minutes"] });
  });
});
