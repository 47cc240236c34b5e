import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test } from "node:test";

import type { ImagePlan } from "#api/v1/image-plan.ts";
import { TaskGroup } from "#async/task-group.ts";
import { KubeClient } from "#kube/client.ts";
import { pods } from "#kube/resource.ts";
import { silentLog } from "#telemetry/log.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { WorkloadImages, type WorkloadImagesOptions } from "./workload-images.ts";
import { imageUserResources } from "./workload-kinds.ts";

const digest = `sha256:${"a".repeat(64)}`;
const kinds = imageUserResources().length;

const plan: ImagePlan = {
  metadata: { name: "tools", namespace: "team" },
  spec: {
    selector: [],
    priority: 0,
    imageGeneration: 1,
    images: [{ reference: "r.test/x:2", digest }],
  },
};
const plans: WorkloadImagesOptions["plans"] = {
  onChange(listener) {
    listener({ type: "added", key: "team/tools", object: plan });
    return { [Symbol.dispose]() {} };
  },
};

async function until(what: string, isSo: () => boolean): Promise<void> {
  const end = Date.now() + 20_000;
  while (!isSo()) {
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
    await sleep(5);
  }
}

function addPod(server: FakeApiServer, name: string, image: string): void {
  const metadata = { name, namespace: "team" };
  server.create(pods, { metadata, spec: { containers: [{ name: "c", image }] } });
}

describe("WorkloadImages", () => {
  test("watches while a Mirror asks, and tells it of what it asks about", async ({ signal }) => {
    await using server = await FakeApiServer.start({ resources: imageUserResources() });
    addPod(server, "one", "r.test/x:1");
    await using client = new KubeClient({
      config: server.config,
      log: silentLog,
      userAgent: "test",
    });
    const clock = new ManualClock();
    const told: string[] = [];
    const onChange = (mirror: string): void => void told.push(mirror);
    const images = new WorkloadImages({ client, plans, clock, log: silentLog, onChange });
    await using group = new TaskGroup(signal);
    group.run((scope) => images.run(scope)).catch(() => {});
    const known = (): boolean => images.users !== undefined;
    assert.equal(known(), false);

    images.want("team/app", ["r.test/x"]);
    images.want("team/other", ["r.test/y"]);
    await until("everything to be known", known);
    assert.deepEqual(told.splice(0), ["team/app", "team/other"]);
    assert.equal(images.users?.userOf("r.test/x:1"), "Pod team/one");
    assert.equal(images.users?.userOf("r.test/x:2"), "Image team/tools");
    assert.equal(images.users?.userOf(`r.test/x@${digest}`), "Image team/tools");
    addPod(server, "two", "r.test/y:1");
    addPod(server, "three", "r.test/z:1");
    await until("a change", () => images.users?.userOf("r.test/z:1") !== undefined);
    assert.deepEqual(told, ["team/other"]);

    images.want("team/app", undefined);
    images.want("team/other", undefined);
    await until("the wait", () => clock.sleeping > 0);
    images.want("team/app", ["r.test/x"]);
    await clock.advance(10 * 60_000);
    assert.equal(server.watching, kinds, "wanted again in time");
    images.want("team/app", undefined);
    await until("the wait", () => clock.sleeping > 0);
    await clock.advance(10 * 60_000);
    await until("the end", () => server.watching === 0);
    assert.equal(known(), false);

    images.want("team/app", []);
    await until("everything to be known again", known);
  });

  test("knows nothing while one kind cannot be read", async ({ signal }) => {
    const resources = imageUserResources().filter(({ kind }) => kind !== "CronJob");
    await using server = await FakeApiServer.start({ resources });
    await using client = new KubeClient({
      config: server.config,
      log: silentLog,
      userAgent: "test",
    });
    const clock = new ManualClock();
    const images = new WorkloadImages({ client, plans, clock, log: silentLog, onChange() {} });
    await using group = new TaskGroup(signal);
    group.run((scope) => images.run(scope)).catch(() => {});
    images.want("team/app", ["r.test/x"]);
    await until("the others", () => server.watching === kinds - 1 && clock.sleeping > 0);

    assert.equal(images.users, undefined);
  });
});
