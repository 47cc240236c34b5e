import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { aScene } from "#test/copy-scene.ts";
import { FakeError } from "#test/fake-repository.ts";
import { addImage, addIndex } from "#test/images.ts";
import type { TagAtTarget } from "./copy-result.ts";
import { runMirror, type MirrorRunOptions } from "./run.ts";

const writes = /^(writeBlob|mountBlob|putManifest|deleteManifest) /;

describe("beforeCopy", () => {
  test("is asked once for each tag before its first byte, and tells what the target has", async ({
    signal,
  }) => {
    const { source, target, start } = aScene(signal);
    addImage(target, ["old"], { tag: "moved" });
    addImage(source, ["new"], { tag: "moved" });
    addIndex(source, "1", [
      { descriptor: addImage(source, ["x", "y"]), platform: "linux/amd64" },
      { descriptor: addImage(source, ["x", "z"]), platform: "linux/arm64" },
    ]);
    const told: [string, TagAtTarget][] = [];
    const copy = start({
      beforeCopy: async (tag, at) => {
        told.push([tag, at]);
        assert.deepEqual(target.log.filter((line) => writes.test(line)).length, written);
      },
    });
    let written = 0;
    const results = [await copy.copyTag("1")];
    written = target.log.filter((line) => writes.test(line)).length;
    results.push(await copy.copyTag("moved"));

    assert.deepEqual(
      results.map(({ outcome }) => outcome),
      ["copied", "copied"],
    );
    const targetTags = new Set(["moved"]);
    assert.deepEqual(told, [
      ["1", { isThere: false, targetTags }],
      ["moved", { isThere: true, targetTags }],
    ]);
  });

  test("is not asked where nothing is written", async ({ signal }) => {
    const { source, start } = aScene(signal);
    addImage(source, ["layer"], { tag: "1" });
    await start().copyTag("1");
    const asked: string[] = [];
    const beforeCopy = async (tag: string): Promise<void> => void asked.push(tag);
    await start({ beforeCopy, referrersDue: true }).copyTag("1");
    addImage(source, ["other"], { tag: "2" });
    await start({ beforeCopy, dryRun: true }).copyTag("2");
    await start({ beforeCopy }).copyTag("none");
    await start({ beforeCopy, platforms: ["linux/s390x"] }).copyTag("2");

    assert.deepEqual(asked, []);
  });

  test("is asked before new referrers of what is unchanged are written", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    const image = addImage(source, ["layer"], { tag: "1" });
    await start().copyTag("1");
    addImage(source, ["signature"], { subject: image, artifactType: "application/x.signature" });
    const before = target.digests();
    const refusing = start({
      referrersDue: new Set(["1"]),
      beforeCopy: async () => {
        throw new FakeError("DENIED");
      },
    });
    const result = await refusing.copyTag("1");

    assert.equal(result.outcome === "failed" && result.code, "DENIED");
    assert.deepEqual(target.digests(), before);
    assert.equal(
      (await start({ referrersDue: new Set(["2"]) }).copyTag("1")).outcome,
      "unchanged",
      "it is not due",
    );
    assert.equal((await start({ referrersDue: new Set(["1"]) }).copyTag("1")).outcome, "copied");
  });

  test("keeps everything from being written if it fails, and only of its tag", async ({
    signal,
  }) => {
    const { source, target } = aScene(signal);
    for (const tag of ["1", "2"]) addImage(source, [tag], { tag });
    const selected: string[][] = [];
    const options: MirrorRunOptions = {
      tasks: [
        {
          source,
          target: { repository: target, path: target.path },
          hosts: { source: "source.test", target: "target.test", parties: [] },
          selection: { listSelection: "all" },
        },
      ],
      onSelected: (references) => void selected.push([...references].sort()),
      beforeCopy: async (tag) => {
        if (tag === "1") throw new FakeError("DENIED");
      },
      signal,
    };
    const result = await runMirror(options);

    assert.deepEqual(selected, [["1", "2"]]);
    assert.deepEqual([result.copied, result.failed], [1, 1]);
    assert.equal(target.tagged("1"), undefined);
    assert.deepEqual(target.digests(), (await only(source, "2", signal)).sort());
  });
});

/** All that an image consists of. */
async function only(
  source: ReturnType<typeof aScene>["source"],
  tag: string,
  signal: AbortSignal,
): Promise<string[]> {
  const { target, start } = aScene(signal);
  await start({ source }).copyTag(tag);
  return target.digests();
}
