import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { formatDescriptor, mediaTypes } from "#oci/manifest.ts";
import { FakeError, FakeRegistry, FakeRepository } from "#test/fake-repository.ts";
import { addImage, addIndex, configType } from "#test/images.ts";
import { FairSlots } from "./fair-slots.ts";
import { BlobPool } from "./blob-pool.ts";
import type { CopyEvent } from "./copy-result.ts";
import { aScene } from "#test/copy-scene.ts";

describe("RepositoryCopy", () => {
  test("copies an index with its platforms, their layers once, and the tag last", async ({
    signal,
  }) => {
    const { source, target, start } = aScene(signal);
    const amd64 = addImage(source, ["base", "amd64"]);
    const arm64 = addImage(source, ["base", "arm64"]);
    const index = addIndex(source, "1", [
      { descriptor: amd64, platform: "linux/amd64" },
      { descriptor: arm64, platform: "linux/arm64" },
    ]);
    const result = await start().copyTag("1");

    assert.deepEqual(target.digests(), source.digests());
    assert.equal(target.tagged("1"), index.digest);
    assert.deepEqual(target.asked("putManifest").at(-1), "1");
    assert.equal(result.outcome === "copied" && result.digest, index.digest);
    assert.equal(result.outcome === "copied" && result.digestDiffers, false);
    assert.deepEqual([result.blobsCopied, result.manifestsCopied], [5, 3]);
    assert.equal(result.bytesCopied, target.receivedBytes);
  });

  test("asks the source for nothing but the digest of a tag that is unchanged", async ({
    signal,
  }) => {
    const { source, target, start } = aScene(signal);
    addImage(source, ["layer"], { tag: "1" });
    await start().copyTag("1");
    source.log.length = 0;
    target.log.length = 0;
    const result = await start().copyTag("1");

    assert.equal(result.outcome, "unchanged");
    assert.deepEqual(source.log, ["find 1"]);
    assert.deepEqual(target.log, ["find 1"]);
  });

  test("asks the source for nothing at all about a digest that is there", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    const { digest } = addImage(source, ["layer"]);
    await start().copyTag(digest);
    source.log.length = 0;
    const result = await start().copyTag(digest);

    assert.equal(result.outcome, "unchanged");
    assert.deepEqual(source.log, []);
    assert.ok(target.digests().includes(digest));
  });

  test("moves a tag that moved, and sends only what is new", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    addImage(source, ["base", "one"], { tag: "latest" });
    await start().copyTag("latest");
    const before = target.receivedBytes;
    const moved = addImage(source, ["base", "two"], { tag: "latest" });
    const result = await start().copyTag("latest");

    assert.equal(result.outcome, "copied");
    assert.equal(target.tagged("latest"), moved.digest);
    assert.equal(result.blobsSkipped, 1);
    assert.equal(target.receivedBytes - before, result.bytesCopied);
  });

  test("reads what the target has under another tag from there", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    const one = addImage(source, ["one"], { tag: "1" });
    const two = addImage(source, ["two"], { tag: "2" });
    source.addManifest(JSON.parse(source.textOf(one.digest)), { tag: "latest" });
    await Promise.all(["1", "2", "latest"].map((tag) => start().copyTag(tag)));
    source.addManifest(JSON.parse(source.textOf(two.digest)), { tag: "latest" });
    source.log.length = 0;
    await start({ referrers: false }).copyTag("latest");

    assert.equal(target.tagged("latest"), two.digest);
    assert.deepEqual(source.log, ["find latest"]);
  });

  test("copies nothing twice of tags that have content in common", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    const tags = Array.from({ length: 20 }, (_, index) => `${index}`);
    for (const tag of tags) addImage(source, ["base", `layer ${Number(tag) % 3}`], { tag });
    const copy = start();
    const results = await Promise.all(tags.map((tag) => copy.copyTag(tag)));

    assert.ok(results.every(({ outcome }) => outcome === "copied"));
    const written = target.asked("writeBlob");
    assert.equal(written.length, new Set(written).size);
  });

  test("takes a blob over from another repository of the target", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    const registry = new FakeRegistry("target.test");
    const other = new FakeRegistry("source.test").repository("org/other");
    addImage(source, ["shared"], { tag: "1" });
    addImage(other, ["shared"], { tag: "1" });
    const shared = { blobs: new BlobPool({ signal }), slots: new FairSlots(4) };
    const [first, second] = ["org/app", "org/other"].map((path) => registry.repository(path));
    assert.ok(first && second);
    const results = await Promise.all([
      start({ target: { repository: first, path: first.path }, ...shared }).copyTag("1"),
      start({
        source: other,
        target: { repository: second, path: second.path },
        ...shared,
      }).copyTag("1"),
    ]);

    assert.deepEqual(
      results.map(({ blobsCopied, blobsMounted }) => `${blobsCopied} ${blobsMounted}`).sort(),
      ["0 2", "2 0"],
    );
    assert.deepEqual(second.digests(), first.digests());
    assert.equal(target.log.length, 0);
  });

  test("leaves out layers that no other registry may have", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    const foreign = source.addBlob(
      "windows",
      "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    );
    const config = source.addBlob("{}", configType);
    const value = {
      mediaType: mediaTypes.dockerImage,
      config: formatDescriptor(config),
      layers: [formatDescriptor(foreign)],
    };
    const image = source.addManifest(value, { tag: "1" });
    await start().copyTag("1");

    assert.deepEqual(target.digests(), [config.digest, image.digest].sort());
  });

  test("keeps Docker's schema 2 byte for byte", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    const config = source.addBlob("{}", "application/vnd.docker.container.image.v1+json");
    const value = {
      schemaVersion: 2,
      mediaType: mediaTypes.dockerImage,
      config: formatDescriptor(config),
      layers: null,
    };
    const image = source.addManifest(value, { tag: "1" });
    await start().copyTag("1");

    const content = await target.manifest("1", { signal });
    assert.deepEqual([content?.digest, content?.mediaType], [image.digest, mediaTypes.dockerImage]);
  });

  test("refuses schema 1 and says why", async ({ signal }) => {
    const { source, start } = aScene(signal);
    const mediaType = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    source.addManifest({ schemaVersion: 1, fsLayers: [] }, { tag: "old", mediaType });
    const result = await start().copyTag("old");

    assert.equal(result.outcome === "failed" && result.code, "UNSUPPORTED_MANIFEST");
    assert.match(result.outcome === "failed" ? result.reason : "", /schema 1/);
  });

  test("refuses a blob whose bytes are wrong, names it, and reads it once", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    const bad = source.addBlob("bad layer");
    for (const tag of ["1", "2"]) addImage(source, ["bad layer", tag], { tag });
    addImage(source, ["good"], { tag: "3" });
    source.corruptBlob(bad.digest, "BAD layer");
    const copy = start();
    const results = [];
    for (const tag of ["1", "2", "3"]) results.push(await copy.copyTag(tag));

    assert.deepEqual(
      results.map((result) => (result.outcome === "failed" ? result.code : result.outcome)),
      ["WRONG_CONTENT", "WRONG_CONTENT", "copied"],
    );
    assert.match(results[0]?.outcome === "failed" ? results[0].reason : "", new RegExp(bad.digest));
    assert.equal(target.tagged("1"), undefined);
    assert.equal(source.asked("blob").filter((digest) => digest === bad.digest).length, 1);
  });

  test("goes on where a blob broke off", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    const layer = source.addBlob("a layer that comes in several pieces");
    addImage(source, ["a layer that comes in several pieces"], { tag: "1" });
    source.breakBlob(layer.digest, 12, new FakeError("UNREACHABLE", { retryable: true }));
    const result = await start().copyTag("1");

    assert.equal(result.outcome, "copied");
    assert.equal(target.receivedBytes, result.bytesCopied);
  });

  test("says that a registry throttles, which is no failure", async ({ signal }) => {
    const { source, start } = aScene(signal);
    addImage(source, ["layer"], { tag: "1" });
    source.fail(
      "manifest",
      "1",
      new FakeError("THROTTLED", { retryable: true, retryAfterMs: 5_000 }),
    );
    const result = await start().copyTag("1");

    assert.equal(result.outcome === "throttled" && result.retryAfterMs, 5_000);
  });

  test("says that there is no such tag", async ({ signal }) => {
    const { target, start } = aScene(signal);
    addImage(target, ["layer"], { tag: "gone" });

    for (const tag of ["none", "gone"]) {
      const result = await start().copyTag(tag);
      assert.equal(result.outcome === "failed" && result.code, "NOT_FOUND");
    }
  });

  test("fails a tag whose index names what the source lacks", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    const elsewhere = new FakeRepository();
    addIndex(source, "1", [{ descriptor: addImage(elsewhere, ["x"]), platform: "linux/amd64" }]);
    const result = await start().copyTag("1");

    assert.equal(result.outcome === "failed" && result.code, "NOT_FOUND");
    assert.equal(target.tagged("1"), undefined);
  });

  test("stops at indexes within indexes that go on", async ({ signal }) => {
    const { source, start } = aScene(signal);
    let descriptor = addImage(source, ["x"]);
    for (let depth = 0; depth < 7; depth++) descriptor = addIndex(source, "deep", [{ descriptor }]);
    const result = await start().copyTag("deep");

    assert.equal(result.outcome === "failed" && result.code, "TOO_DEEP");
  });

  test("keeps to the slots for blobs", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    addImage(
      source,
      Array.from({ length: 12 }, (_, index) => `layer ${index}`),
      { tag: "1" },
    );
    await start({ slots: new FairSlots(3) }).copyTag("1");

    assert.equal(target.writing.most, 3);
  });

  test("rejects when it is aborted", async ({ signal }) => {
    const stop = new AbortController();
    const { source, start } = aScene(AbortSignal.any([signal, stop.signal]));
    const layer = source.addBlob("held");
    addImage(source, ["held"], { tag: "1" });
    const release = source.holdBlob(layer.digest);
    const copying = start().copyTag("1");
    const reason = new Error("enough");
    stop.abort(reason);
    release();

    await assert.rejects(copying, (error) => error === reason);
  });

  test("tells what happens", async ({ signal }) => {
    const { source, start } = aScene(signal);
    addImage(source, ["layer"], { tag: "1" });
    const events: CopyEvent[] = [];
    await start({ onEvent: (event) => events.push(event) }).copyTag("1");

    assert.deepEqual(
      [...new Set(events.map(({ kind }) => kind))],
      ["tagStarted", "blobProgress", "blobDone", "tagDone"],
    );
    assert.equal(events.at(-1)?.kind, "tagDone");
  });

  test("only says what it would copy in a dry run", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    addImage(source, ["layer"], { tag: "1" });
    const copy = start({ dryRun: true });
    const outcomes = [await copy.copyTag("1"), await copy.copyTag("none")];

    assert.deepEqual(
      outcomes.map(({ outcome }) => outcome),
      ["planned", "failed"],
    );
    assert.deepEqual(target.digests(), []);
    assert.deepEqual(source.asked("manifest"), []);
  });
});
