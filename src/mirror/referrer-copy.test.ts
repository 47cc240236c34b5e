import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { fallbackTag, formatDescriptor, mediaTypes } from "#oci/manifest.ts";
import { FakeError, FakeRegistry, FakeRepository } from "#test/fake-repository.ts";
import { addImage, addIndex } from "#test/images.ts";
import { aScene } from "#test/copy-scene.ts";

describe("ReferrerCopy", () => {
  for (const hasReferrersApi of [true, false]) {
    const where = hasReferrersApi ? "with" : "without";
    test(`brings them to a registry ${where} the API, and those of platforms and of referrers`, async ({
      signal,
    }) => {
      const { source, target, start } = aScene(signal, { hasReferrersApi });
      const image = addImage(source, ["layer"]);
      const index = addIndex(source, "1", [{ descriptor: image, platform: "linux/amd64" }]);
      const sbom = addImage(source, ["sbom"], { subject: image, artifactType: "text/spdx" });
      const signature = addImage(source, ["sig"], {
        subject: index,
        artifactType: "test/signature",
      });
      const second = addImage(source, ["sig of sbom"], {
        subject: sbom,
        artifactType: "test/signature",
      });
      await start().copyTag("1");

      const found = await Promise.all(
        [index, image, sbom].map(({ digest }) => target.referrers(digest, { signal })),
      );
      assert.deepEqual(
        found.map((list) => list.map(({ digest, artifactType }) => [digest, artifactType])),
        [
          [[signature.digest, "test/signature"]],
          [[sbom.digest, "text/spdx"]],
          [[second.digest, "test/signature"]],
        ],
      );
      assert.equal(target.asked("putManifest").at(-1), "1", "who pulls by the tag finds them");
    });
  }

  test("brings those that a source without the API lists under fallback tags", async ({
    signal,
  }) => {
    const registry = new FakeRegistry("source.test", { hasReferrersApi: false });
    const source = registry.repository("org/app");
    const { target, start } = aScene(signal);
    const image = addImage(source, ["layer"], { tag: "1" });
    const sbom = addImage(source, ["sbom"], { subject: image });
    addIndex(source, fallbackTag(image.digest), [{ descriptor: sbom }]);
    await start({ source }).copyTag("1");

    const found = await target.referrers(image.digest, { signal });
    assert.deepEqual(
      found.map(({ digest }) => digest),
      [sbom.digest],
    );
  });

  test("brings what cosign keeps in tags", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    const image = addImage(source, ["layer"], { tag: "1" });
    const tag = `${fallbackTag(image.digest)}.sig`;
    addImage(source, ["signature"], { tag });
    await start().copyTag("1");

    assert.equal(target.tagged(tag), source.tagged(tag));
    assert.equal(source.asked("tags").length, 1);
  });

  test("asks for cosign's tags by name where tags cannot be listed", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    const image = addImage(source, ["layer"], { tag: "1" });
    const tag = `${fallbackTag(image.digest)}.att`;
    addImage(source, ["attestation"], { tag });
    source.fail("tags", "", new FakeError("DENIED"));
    await start().copyTag("1");

    assert.equal(target.tagged(tag), source.tagged(tag));
  });

  test("finds those that came later only when it is time to look", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    const image = addImage(source, ["layer"], { tag: "1" });
    await start().copyTag("1");
    const late = addImage(source, ["late"], { subject: image });
    const outcomes = [
      await start().copyTag("1"),
      await start({ referrersDue: true }).copyTag("1"),
      await start({ referrersDue: true }).copyTag("1"),
    ];

    assert.deepEqual(
      outcomes.map(({ outcome }) => outcome),
      ["unchanged", "copied", "unchanged"],
    );
    assert.ok(target.digests().includes(late.digest));
  });

  test("does not believe that something refers to an image, but looks", async ({ signal }) => {
    const source = new FakeRegistry("source.test", { hasReferrersApi: false }).repository(
      "org/app",
    );
    const { target, start } = aScene(signal);
    const image = addImage(source, ["layer"], { tag: "1" });
    const stranger = addImage(source, ["stranger"]);
    const gone = addImage(new FakeRepository(), ["gone"], { subject: image });
    addIndex(source, fallbackTag(image.digest), [{ descriptor: stranger }, { descriptor: gone }]);
    const result = await start({ source }).copyTag("1");

    assert.equal(result.outcome, "copied");
    assert.equal(target.digests().includes(stranger.digest), false);
  });

  test("ends where referrers go round in a circle", async ({ signal }) => {
    const source = new FakeRegistry("source.test", { hasReferrersApi: false }).repository(
      "org/app",
    );
    const { start } = aScene(signal);
    const image = addImage(source, ["layer"]);
    const index = source.addManifest(
      {
        mediaType: mediaTypes.ociIndex,
        manifests: [formatDescriptor(image)],
        subject: formatDescriptor(image),
      },
      { tag: "1" },
    );
    addIndex(source, fallbackTag(image.digest), [{ descriptor: index }]);
    addIndex(source, fallbackTag(index.digest), [{ descriptor: index }, { descriptor: image }]);
    const copy = start({ source });
    const results = await Promise.all(["1", image.digest].map((tag) => copy.copyTag(tag)));

    assert.deepEqual(
      results.map(({ outcome }) => outcome),
      ["copied", "copied"],
    );
  });

  test("lists again what a process that was killed stored and did not list", async ({ signal }) => {
    const { source, target, start } = aScene(signal, { hasReferrersApi: false });
    const image = addImage(source, ["layer"], { tag: "1" });
    const sbom = addImage(source, ["sbom"], { subject: image });
    await start().copyTag("1");
    target.removeTag(fallbackTag(image.digest));
    await start({ referrersDue: true }).copyTag("1");

    const found = await target.referrers(image.digest, { signal });
    assert.deepEqual(
      found.map(({ digest }) => digest),
      [sbom.digest],
    );
  });

  test("leaves them where they are, if they are not wanted", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    const image = addImage(source, ["layer"], { tag: "1" });
    addImage(source, ["sig"], { subject: image });
    await start({ referrers: false }).copyTag("1");

    assert.deepEqual(source.asked("referrers"), []);
    assert.equal((await target.referrers(image.digest, { signal })).length, 0);
  });

  test("fails every tag of an image if what refers to its referrers did not come", async ({
    signal,
  }) => {
    const { source, start } = aScene(signal);
    const image = addImage(source, ["layer"], { tag: "1" });
    source.addManifest(JSON.parse(source.textOf(image.digest)), { tag: "2" });
    const sbom = addImage(source, ["sbom"], { subject: image });
    addImage(source, ["signature of the sbom"], { subject: sbom });
    source.fail("referrers", sbom.digest, new FakeError("UNREACHABLE", { retryable: true }));
    const copy = start();
    const outcomes = [await copy.copyTag("1"), await copy.copyTag("2")];

    assert.deepEqual(
      outcomes.map(({ outcome }) => outcome),
      ["failed", "failed"],
    );
  });

  test("stops at too many of them for every tag of an image", async ({ signal }) => {
    const { source, start } = aScene(signal);
    const children = ["a", "b"].map((layer) => addImage(source, [layer]));
    const index = addIndex(
      source,
      "1",
      children.map((descriptor) => ({ descriptor })),
    );
    source.addManifest(JSON.parse(source.textOf(index.digest)), { tag: "2" });
    for (const subject of children) {
      for (let each = 0; each < 501; each++) {
        addImage(source, ["x"], { subject, artifactType: `test/${each}` });
      }
    }
    const copy = start();
    for (const result of [await copy.copyTag("1"), await copy.copyTag("2")]) {
      assert.equal(result.outcome === "failed" && result.code, "TOO_MANY_REFERRERS");
    }
  });

  test("asks once for those of an image that several tags name", async ({ signal }) => {
    const { source, start } = aScene(signal);
    const image = addImage(source, ["layer"], { tag: "1" });
    source.addManifest(JSON.parse(source.textOf(image.digest)), { tag: "2" });
    const tag = `${fallbackTag(image.digest)}.sig`;
    addImage(source, ["signature"], { tag });
    const copy = start();
    await Promise.all(["1", "2"].map((each) => copy.copyTag(each)));

    assert.deepEqual(source.asked("referrers"), [image.digest]);
    assert.equal(source.asked("manifest").filter((name) => name === tag).length, 1);
  });

  test("adds to cosign's signatures at the target, and never takes one away", async ({
    signal,
  }) => {
    const { source, target, start } = aScene(signal);
    const image = addImage(source, ["layer"], { tag: "1" });
    const tag = `${fallbackTag(image.digest)}.sig`;
    addImage(source, ["a"], { tag });
    await start().copyTag("1");
    const more = addImage(source, ["a", "b"], { tag });
    await start({ referrersDue: true }).copyTag("1");
    assert.equal(target.tagged(tag), more.digest);

    const own = addImage(target, ["a", "b", "own"], { tag });
    const kept = await start({ referrersDue: true }).copyTag("1");
    assert.deepEqual([kept.outcome, target.tagged(tag)], ["unchanged", own.digest]);

    addImage(source, ["a", "b", "c"], { tag });
    const failed = await start({ referrersDue: true }).copyTag("1");
    assert.equal(failed.outcome === "failed" && failed.code, "SIGNATURES_DIFFER");
    assert.equal(target.tagged(tag), own.digest);
  });

  test("stores nothing again that a list at the source names for no reason", async ({ signal }) => {
    const source = new FakeRegistry("source.test", { hasReferrersApi: false }).repository(
      "org/app",
    );
    const { target, start } = aScene(signal);
    const image = addImage(source, ["layer"], { tag: "1" });
    const other = addImage(source, ["other"], { tag: "2" });
    addIndex(source, fallbackTag(image.digest), [{ descriptor: other }]);
    const copy = start({ source });
    await copy.copyTag("2");
    await copy.copyTag("1");
    target.log.length = 0;
    await start({ source, referrersDue: true }).copyTag("1");

    assert.deepEqual(target.asked("putManifest"), []);
  });

  test("asks for cosign's tags by name where the list of tags does not end", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    const image = addImage(source, ["layer"], { tag: "1" });
    const tag = `${fallbackTag(image.digest)}.sig`;
    addImage(source, ["signature"], { tag });
    source.tags = async function* () {
      for (;;) yield `sha256-${"a".repeat(64)}.sig`;
    };
    await start().copyTag("1");

    assert.equal(target.tagged(tag), source.tagged(tag));
  });
});
