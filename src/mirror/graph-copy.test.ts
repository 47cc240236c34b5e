import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";

import { aScene } from "#test/copy-scene.ts";
import { FakeError } from "#test/fake-repository.ts";
import { addImage, addIndex } from "#test/images.ts";
import { FairSlots } from "./fair-slots.ts";

const numbers = (length: number): string[] => Array.from({ length }, (_, index) => `${index}`);

describe("GraphCopy", () => {
  test("tries what several tags have in common once, if that fails", async ({ signal }) => {
    const { source, start } = aScene(signal);
    const bad = source.addBlob("bad");
    const image = addImage(source, ["bad"]);
    for (const tag of numbers(10)) {
      addIndex(source, tag, [{ descriptor: image }, { descriptor: addImage(source, [tag]) }]);
    }
    source.fail("blob", bad.digest, new FakeError("UNREACHABLE"));
    const copy = start();
    const results = await Promise.all(numbers(10).map((tag) => copy.copyTag(tag)));

    assert.ok(results.every(({ outcome }) => outcome === "failed"));
    const times = source.asked("manifest").filter((digest) => digest === image.digest);
    assert.equal(times.length, 1);
  });

  test("has no more than a few manifests of one index in memory", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    const layer = source.addBlob("held");
    const release = source.holdBlob(layer.digest);
    const children = numbers(20).map((name) => ({ descriptor: addImage(source, ["held", name]) }));
    addIndex(source, "1", children);
    const copying = start().copyTag("1");
    while (source.asked("blob").length < 4) await setImmediate();
    const begun = source.asked("manifest").length;
    release();

    assert.equal((await copying).outcome, "copied");
    assert.ok(begun <= 1 + 8, `${begun} were read`);
    assert.deepEqual(target.digests(), source.digests());
  });

  test("lets small images in between the blobs of a huge one", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    addImage(source, numbers(500), { tag: "huge" });
    addImage(source, ["small layer"], { tag: "small" });
    const write = target.writeBlob.bind(target);
    target.writeBlob = async (...blob) => {
      await setImmediate(); // Else the huge one is there before the small one is looked at.
      return write(...blob);
    };
    const copy = start({ slots: new FairSlots(4) });
    const huge = copy.copyTag("huge");
    while (target.asked("writeBlob").length < 4) await setImmediate();
    await copy.copyTag("small");
    const written = target.asked("writeBlob").length;

    assert.equal((await huge).outcome, "copied");
    assert.ok(written < 100, `${written} blobs came first`);
  });
});
