import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { FakeApiServer } from "#test/fake-api-server.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { silentLog } from "#telemetry/log.ts";
import { KubeClient } from "./client.ts";
import { EventRecorder, type EventRecord } from "./events.ts";
import { events } from "./resource.ts";

const aRecord = (record: Partial<EventRecord> = {}): EventRecord => ({
  regarding: { apiVersion: "stvz.io/v1", kind: "Image", namespace: "team", name: "web", uid: "u" },
  type: "Warning",
  reason: "PullFailed",
  action: "Pull",
  note: "no such image",
  ...record,
});

async function written(
  server: FakeApiServer,
  clock: ManualClock,
  act: (recorder: EventRecorder) => Promise<void> | void,
): Promise<ReturnType<typeof events.parse>[]> {
  await using client = new KubeClient({
    config: server.config,
    log: silentLog,
    userAgent: "t/1",
  });
  {
    await using recorder = new EventRecorder({
      client,
      controller: "stvz.io/test",
      instance: "test-0",
      clock,
      log: silentLog,
    });
    await act(recorder);
  }
  return server.list(events).map((event) => events.parse(event));
}

describe("EventRecorder", () => {
  test("writes what happened, beside the object it is about", async () => {
    await using server = await FakeApiServer.start();
    const [event] = await written(server, new ManualClock(), (recorder) =>
      recorder.record(aRecord()),
    );

    assert.equal(event?.metadata.namespace, "team");
    assert.match(event?.metadata.name ?? "", /^web\./);
    assert.equal(event?.eventTime, "2026-01-01T00:00:00.000000Z");
    assert.equal(event?.note, "no such image");
    assert.equal(event?.regarding.kind, "Image");
  });

  test("counts a repeat in the first event, and writes the count once a minute", async () => {
    await using server = await FakeApiServer.start();
    const clock = new ManualClock();
    const [event, ...others] = await written(server, clock, async (recorder) => {
      for (let second = 0; second <= 120; second += 2) {
        recorder.record(aRecord({ note: `attempt ${second}` }));
        await clock.advance(2_000);
      }
    });

    assert.deepEqual(others, []);
    assert.equal(event?.series?.count, 61);
    assert.equal(server.requests.length, 3);
  });

  test("begins a new event when the last one is long ago", async () => {
    await using server = await FakeApiServer.start();
    const clock = new ManualClock();
    const all = await written(server, clock, async (recorder) => {
      recorder.record(aRecord());
      await clock.advance(6 * 60_000);
      recorder.record(aRecord());
    });
    assert.equal(all.length, 2);
  });

  test("lets one object's noise drown no other object's event", async () => {
    await using server = await FakeApiServer.start();
    const regarding = { kind: "Node", name: "worker" };
    const all = await written(server, new ManualClock(), async (recorder) => {
      for (let index = 0; index < 25; index++) recorder.record(aRecord({ reason: `R${index}` }));
      recorder.record(aRecord({ regarding }));
      await Promise.resolve();
    });

    assert.equal(all.filter((event) => event.regarding.name === "web").length, 10);
    const ofNode = all.filter((event) => event.regarding.name === "worker");
    assert.deepEqual(
      ofNode.map(({ metadata }) => metadata.namespace),
      ["default"],
    );
  });

  test("cuts a note to what the API takes, between characters", async () => {
    await using server = await FakeApiServer.start();
    const note = "é".repeat(1_000);
    const [event] = await written(server, new ManualClock(), (recorder) =>
      recorder.record(aRecord({ note })),
    );
    assert.equal(event?.note, "é".repeat(512));
  });

  test("drops what cannot be written", async () => {
    await using server = await FakeApiServer.start();
    server.fail({ status: 403 });
    const all = await written(server, new ManualClock(), (recorder) => recorder.record(aRecord()));
    assert.deepEqual(all, []);
  });
});
