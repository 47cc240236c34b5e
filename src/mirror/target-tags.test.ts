import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { aScene } from "#test/copy-scene.ts";
import { FakeError, FakeRepository } from "#test/fake-repository.ts";
import { addImage } from "#test/images.ts";
import { TargetTags } from "./target-tags.ts";

const numbers = (length: number): string[] => Array.from({ length }, (_, index) => `${index}`);

describe("TargetTags", () => {
  test("asks for one list, rather than for each of many tags that are new", async ({ signal }) => {
    const target = new FakeRepository();
    addImage(target, ["layer"], { tag: "old" });
    const tags = new TargetTags(target, { signal });
    for (const tag of numbers(10)) assert.equal(await tags.find(tag, { signal }), undefined);
    const old = await tags.find("old", { signal });

    assert.equal(old?.digest, target.tagged("old"));
    assert.deepEqual(target.asked("find"), ["0", "old"]);
    assert.equal(target.asked("tags").length, 1);
    assert.equal(tags.isNew, false);
  });

  test("asks for each tag where there are many, or none may be listed", async ({ signal }) => {
    const many = new FakeRepository();
    for (const tag of numbers(1_001)) addImage(many, ["layer"], { tag });
    const closed = new FakeRepository();
    closed.fail("tags", "", new FakeError("DENIED"));
    for (const target of [many, closed]) {
      const tags = new TargetTags(target, { signal });
      for (const tag of ["a", "b", "c"]) await tags.find(tag, { signal });

      assert.deepEqual(target.asked("find"), ["a", "b", "c"]);
      assert.equal(tags.isNew, false);
    }
  });

  test("does not ask a repository that is new for small blobs and for manifests", async ({
    signal,
  }) => {
    const { source, target, start } = aScene(signal);
    for (const tag of numbers(30)) addImage(source, ["base", tag], { tag });
    addImage(source, ["x".repeat(300_000)], { tag: "large" }); // Its configuration is large, too.
    const copy = start();
    const results = await Promise.all(["large", ...numbers(30)].map((tag) => copy.copyTag(tag)));

    assert.ok(results.every(({ outcome }) => outcome === "copied"));
    assert.equal(target.asked("hasBlob").length, 2);
    assert.deepEqual(target.digests(), source.digests());
  });
});
