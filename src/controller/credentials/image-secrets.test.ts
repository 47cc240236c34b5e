import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test } from "node:test";

import { images } from "#api/v1/resources.ts";
import { systemClock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import { KubeClient } from "#kube/client.ts";
import { Informer } from "#kube/informer.ts";
import { silentLog } from "#telemetry/log.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { anImage } from "#test/kinds.ts";
import { watchImageSecrets } from "./image-secrets.ts";

async function until(what: string, look: () => boolean): Promise<void> {
  for (const end = Date.now() + 30_000; !look(); await sleep(2)) {
    assert.ok(Date.now() < end, `${what} within 30 s`);
  }
}

describe("watchImageSecrets()", () => {
  test("uses what each Image names while it does, until disposed", async ({ signal }) => {
    await using server = await FakeApiServer.start({ resources: [images] });
    const common = { config: server.config, log: silentLog, userAgent: "test" };
    await using client = new KubeClient(common);
    const informer = new Informer({
      client,
      clock: systemClock,
      log: silentLog,
      resource: images,
    });
    const used: unknown[] = [];
    const listening = watchImageSecrets(informer, { use: (...what) => void used.push(what) });
    await using group = new TaskGroup(signal);
    group.run((scope) => informer.run(scope)).catch(() => {});

    const { spec } = anImage({ imagePullSecrets: [{ name: "one" }, { name: "two" }] });
    server.create(images, { metadata: { namespace: "team", name: "tools" }, spec });
    await until("an Image", () => used.length === 1);
    server.merge(images, "team/tools", { spec: { imagePullSecrets: [{ name: "two" }] } });
    await until("a change", () => used.length === 2);
    server.delete(images, "team/tools");
    await until("a deletion", () => used.length === 3);
    listening[Symbol.dispose]();
    server.create(images, { metadata: { namespace: "team", name: "late" }, spec });
    await until("another Image", () => informer.get("team/late") !== undefined);

    assert.deepEqual(used, [
      ["team/tools", "team", ["one", "two"]],
      ["team/tools", "team", ["two"]],
      ["team/tools", "team", []],
    ]);
  });
});
