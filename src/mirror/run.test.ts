import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { FakeError, FakeRegistry, type FakeRepository } from "#test/fake-repository.ts";
import { addImage } from "#test/images.ts";
import { HostSlots } from "./host-slots.ts";
import { runMirror, type MirrorTask } from "./run.ts";

const target = "target.test";

function aTask(
  source: FakeRepository,
  to: FakeRegistry,
  selection: MirrorTask["selection"] = { listSelection: "all" },
): MirrorTask {
  const { path } = source;
  const hosts = { source: source.name.split("/")[0] ?? "", target, parties: [] };
  return { source, target: { repository: to.repository(path), path }, hosts, selection };
}

function aSource(path: string, tags: readonly string[], host = "source.test"): FakeRepository {
  const repository = new FakeRegistry(host).repository(path);
  for (const tag of tags) addImage(repository, ["base", `${path}:${tag}`], { tag });
  return repository;
}

describe("runMirror()", () => {
  test("copies every repository and counts what it did, then finds nothing to do", async ({
    signal,
  }) => {
    const registry = new FakeRegistry(target);
    const sources = ["a/one", "a/two"].map((path) => aSource(path, ["1", "2", "3"]));
    const tasks = sources.map((source) => aTask(source, registry));
    const first = await runMirror({ tasks, signal });
    const second = await runMirror({ tasks, signal });

    assert.deepEqual([first.copied, first.unchanged, first.failed], [6, 0, 0]);
    assert.deepEqual([second.copied, second.unchanged, second.bytesCopied], [0, 6, 0]);
    assert.deepEqual(
      first.repositories.map(({ source, target: to, tags }) => [source, to, tags.length]),
      [
        ["source.test/a/one", "target.test/a/one", 3],
        ["source.test/a/two", "target.test/a/two", 3],
      ],
    );
    for (const source of sources) {
      const copy = registry.repository(source.path);
      assert.deepEqual(copy.digests(), source.digests());
    }
  });

  test("goes on after tags that fail, and after repositories that cannot be listed", async ({
    signal,
  }) => {
    const registry = new FakeRegistry(target);
    const [bad, closed, busy] = ["a/bad", "a/closed", "a/busy"].map((path) =>
      aSource(path, ["1", "2"]),
    );
    assert.ok(bad && closed && busy);
    bad.fail("manifest", "1", new FakeError("DENIED"));
    closed.fail("tags", "", new FakeError("DENIED", { reason: "not yours" }));
    busy.fail("tags", "", new FakeError("THROTTLED", { retryable: true }));
    const tasks = [bad, closed, busy].map((source) => aTask(source, registry));
    const result = await runMirror({ tasks, signal });

    assert.deepEqual([result.copied, result.failed, result.throttled], [1, 2, 1]);
    assert.deepEqual(result.repositories[1]?.failure, {
      outcome: "failed",
      code: "DENIED",
      reason: "not yours",
    });
  });

  test("does not let a registry that hangs delay another one", async ({ signal }) => {
    const registry = new FakeRegistry(target);
    const tags = Array.from({ length: 20 }, (_, index) => `${index}`);
    const slow = aSource("a/slow", tags, "slow.test");
    const fast = aSource("a/fast", tags, "fast.test");
    const { digest } = slow.addBlob("base");
    const release = slow.holdBlob(digest);
    const stop = new AbortController();
    const slots = new HostSlots({ total: 8, perSource: 4, perTarget: 8, blobsPerSource: 2 });
    const stuck = runMirror({
      tasks: [aTask(slow, registry)],
      slots,
      signal: AbortSignal.any([signal, stop.signal]),
    });
    const result = await runMirror({ tasks: [aTask(fast, registry)], slots, signal });

    assert.equal(result.copied, 20);
    const reason = new Error("enough");
    stop.abort(reason);
    release();
    await assert.rejects(stuck, (error) => error === reason);
  });

  test("leaves room as it was when it is aborted", async ({ signal }) => {
    const slots = new HostSlots({ total: 2 });
    const registry = new FakeRegistry(target);
    const task = aTask(aSource("a/b", ["1", "2", "3", "4"]), registry);
    const aborted = AbortSignal.abort(new Error("enough"));
    await assert.rejects(runMirror({ tasks: [task], slots, signal: aborted }), /enough/);
    const result = await runMirror({ tasks: [task], slots, signal });

    assert.equal(result.copied, 4);
  });

  test("says what it would do in a dry run", async ({ signal }) => {
    const registry = new FakeRegistry(target);
    const source = aSource("a/b", ["1", "2"]);
    const task = aTask(source, registry, { tags: ["1", "2"] });
    await runMirror({ tasks: [aTask(source, registry, { tags: ["1"] })], signal });
    const result = await runMirror({ tasks: [task], dryRun: true, signal });

    assert.deepEqual([result.planned, result.unchanged, result.copied], [1, 1, 0]);
  });
});
