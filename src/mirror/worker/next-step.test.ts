import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import type { MirrorShardSpec, MirrorShardStatus } from "#api/v1/mirror-shard.ts";
import type { ObjectMeta } from "#kube/types.ts";
import { aMirrorShard } from "#test/mirror-shards.ts";
import { heldUntilMs, isOwn, nextStep, type Situation, type Step } from "./next-step.ts";
import { ownerOf } from "./rendezvous.ts";

const now = new Date("2026-01-01T12:00:00Z");
const hourMs = 3_600_000;
const inMs = (ms: number): string => new Date(now.getTime() + ms).toISOString();

/** What a shard says that was done and is not due. */
const done = { observedGeneration: 1, lastSyncTime: inMs(-1), nextSyncTime: inMs(hourMs) };

function stepOf(
  {
    spec = {},
    status,
    metadata = {},
  }: {
    spec?: Partial<MirrorShardSpec>;
    status?: Partial<MirrorShardStatus>;
    metadata?: Partial<ObjectMeta>;
  },
  situation: Partial<Situation> = {},
): Step {
  const shard = aMirrorShard(spec, { metadata, ...(status && { status }) });
  const alone = { identity: "me", members: new Set(["me"]), isAskedAnew: false, now };
  return nextStep(shard, { ...alone, ...situation });
}

const run: Step = { kind: "run" };
const leave: Step = { kind: "leave" };
const wait = (ms: number): Step => ({ kind: "wait", untilMs: now.getTime() + ms });

describe("nextStep()", () => {
  test("runs what was never done, and what was interrupted", () => {
    assert.deepEqual(stepOf({}), run);
    assert.deepEqual(stepOf({ status: {} }), run);
    assert.deepEqual(stepOf({ status: { ...done, worker: "me" } }), run);
  });

  test("waits until the time that the status names", () => {
    assert.deepEqual(stepOf({ status: done }), wait(hourMs));
    assert.deepEqual(stepOf({ status: { ...done, nextSyncTime: inMs(0) } }), run);
    assert.deepEqual(stepOf({ status: { ...done, nextSyncTime: "soon" } }), run);
  });

  test("does not believe a run whose clock was wrong", () => {
    const [lastSyncTime, nextSyncTime] = [inMs(1_000 * hourMs), inMs(1_001 * hourMs)];
    assert.deepEqual(stepOf({ status: { ...done, lastSyncTime, nextSyncTime } }), run);
    assert.deepEqual(stepOf({ status: { ...done, lastSyncTime: inMs(60_000) } }), wait(hourMs));
  });

  test("runs when the spec is another one, or a run is asked for that was not answered", () => {
    assert.deepEqual(stepOf({ status: done, metadata: { generation: 2 } }), run);
    assert.deepEqual(stepOf({ status: done, spec: { run: "b" } }), run);
    assert.deepEqual(stepOf({ status: { ...done, observedRun: "a" }, spec: { run: "b" } }), run);
  });

  test("does not run again for what was answered, nor for a wish that was taken back", () => {
    const answered = { ...done, observedRun: "a" };
    assert.deepEqual(stepOf({ status: answered, spec: { run: "a" } }), wait(hourMs));
    assert.deepEqual(stepOf({ status: answered }), wait(hourMs));
  });

  test("does not try again at once what could not be removed", () => {
    const digest = `sha256:${"0".repeat(64)}`;
    const removals = [{ tag: "old", digest, dueTime: inMs(-1) }];
    const tried = { ...done, removals, deleteUnsupported: true };
    const spec = { removals: [{ tag: "old", digest }] };

    assert.deepEqual(stepOf({ status: tried, spec }), wait(hourMs));
    assert.deepEqual(stepOf({ status: tried, spec, metadata: { generation: 2 } }), run);
  });

  test("leaves a registry alone that wants to be, unless it is asked something else", () => {
    const held = { ...done, throttledUntil: inMs(60_000), nextSyncTime: inMs(0) };

    assert.deepEqual(stepOf({ status: held }), wait(60_000));
    assert.deepEqual(stepOf({ status: held, spec: { run: "b" } }), wait(60_000));
    assert.deepEqual(stepOf({ status: held }, { isAskedAnew: true }), run);
    assert.deepEqual(stepOf({ status: { ...held, throttledUntil: inMs(0) } }), run);
  });

  test("leaves alone what is suspended or on its way out", () => {
    assert.deepEqual(stepOf({ spec: { suspend: true } }, { isAskedAnew: true }), leave);
    assert.deepEqual(stepOf({ metadata: { deletionTimestamp: inMs(0) } }), leave);
  });

  test("leaves alone what is another worker's, and everything while it is no member itself", () => {
    const { source } = aMirrorShard().spec;
    const members = new Set(["me", "other"]);
    const owner = ownerOf(source, members);
    const [mine, theirs] = owner === "me" ? ["me", "other"] : ["other", "me"];

    assert.deepEqual(stepOf({}, { members, identity: mine }), run);
    assert.deepEqual(stepOf({}, { members, identity: theirs }), leave);
    assert.deepEqual(stepOf({}, { members: new Set() }), leave);
  });

  test("leaves alone what a living worker is at, and takes over from a dead one", () => {
    const members = new Set(["me", "other"]);
    const identity = ownerOf(aMirrorShard().spec.source, members) ?? "";
    const other = identity === "me" ? "other" : "me";
    const status = { ...done, worker: other };

    assert.deepEqual(stepOf({ status }, { members, identity }), leave);
    assert.deepEqual(stepOf({ status }, { members: new Set([identity]), identity }), run);
  });

  test("lets exactly one of those who know the same workers do a shard", () => {
    const names = fc.uniqueArray(fc.string({ minLength: 1 }), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(names, fc.string(), (members, source) => {
        const shard = aMirrorShard({ source });
        const all = new Set(members);
        const doing = members.filter((identity) => isOwn(shard, { identity, members: all }));
        assert.equal(doing.length, 1);
      }),
    );
  });
});

describe("heldUntilMs()", () => {
  test("is nothing where no registry wants to be left alone", () => {
    assert.equal(heldUntilMs(aMirrorShard(), now.getTime()), undefined);
    const status = { throttledUntil: "later" };
    assert.equal(heldUntilMs(aMirrorShard({}, { status }), now.getTime()), undefined);
  });

  test("is nothing where a clock was wrong by more than any registry asks for", () => {
    const heldMs = (hours: number): number | undefined => {
      const untilMs = now.getTime() + hours * 3_600_000;
      const status = { throttledUntil: new Date(untilMs).toISOString() };
      return heldUntilMs(aMirrorShard({}, { status }), now.getTime());
    };

    assert.equal(heldMs(6), now.getTime() + 6 * 3_600_000);
    assert.equal(heldMs(24), undefined);
  });
});
