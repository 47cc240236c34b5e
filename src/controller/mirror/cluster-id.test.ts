import assert from "node:assert/strict";
import { test } from "node:test";

import type { KubeClient } from "#kube/client.ts";
import { silentLog } from "#telemetry/log.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { readClusterId } from "./cluster-id.ts";

test("readClusterId() tries until it knows the uid of kube-system", async ({ signal }) => {
  const clock = new ManualClock();
  const answers = [
    () => Promise.reject(new Error("no")),
    () => Promise.resolve(undefined),
    () => Promise.resolve({ metadata: { name: "kube-system", uid: "c0ffee" } }),
  ];
  const get: KubeClient["get"] = async (resource) => {
    const object = await answers.shift()?.();
    return object && resource.parse(object);
  };
  const reading = readClusterId({
    client: { get },
    clock,
    random: () => 0,
    log: silentLog,
    signal,
  });
  await clock.advance(500);
  await clock.advance(1_000);

  assert.equal(await reading, "c0ffee");
});
