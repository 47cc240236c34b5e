import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { Descriptor } from "#oci/content.ts";
import { formatDescriptor, mediaTypes } from "#oci/manifest.ts";
import type { FakeRepository } from "#test/fake-repository.ts";
import { addImage, addIndex } from "#test/images.ts";
import { aScene } from "#test/copy-scene.ts";

function addPlatforms(source: FakeRepository, tag: string): Record<string, Descriptor> {
  const amd64 = addImage(source, ["amd64"]);
  const arm64 = addImage(source, ["arm64"]);
  const attested = addImage(source, ["attestation of arm64"]);
  const annotations = {
    "vnd.docker.reference.type": "attestation-manifest",
    "vnd.docker.reference.digest": arm64.digest,
  };
  const index = addIndex(source, tag, [
    { descriptor: amd64, platform: "linux/amd64" },
    { descriptor: arm64, platform: "linux/arm64/v8" },
    { descriptor: attested, platform: "unknown/unknown", annotations },
  ]);
  return { amd64, arm64, attested, index };
}

describe("filterIndex(), when a tag is copied", () => {
  test("makes an index of them and their attestations, and says that its digest differs", async ({
    signal,
  }) => {
    const { source, target, start } = aScene(signal);
    const { amd64, arm64, attested, index } = addPlatforms(source, "1");
    const result = await start({ platforms: ["linux/arm64"] }).copyTag("1");

    const has = (each: Descriptor | undefined): boolean =>
      target.digests().includes(each?.digest ?? "");
    assert.deepEqual([amd64, arm64, attested, index].map(has), [false, true, true, false]);
    assert.equal(result.outcome === "copied" && result.digestDiffers, true);
    assert.equal(result.outcome === "copied" && result.digest, target.tagged("1"));
  });

  test("asks the source for nothing but the digest when nothing changed", async ({ signal }) => {
    const { source, start } = aScene(signal);
    addPlatforms(source, "1");
    await start({ platforms: ["linux/arm64"] }).copyTag("1");
    source.log.length = 0;
    const same = await start({ platforms: ["linux/arm64"] }).copyTag("1");
    assert.equal(same.outcome === "unchanged" && same.digestDiffers, true);
    assert.deepEqual(source.log, ["find 1"]);

    const other = await start({ platforms: ["linux/amd64"] }).copyTag("1");
    assert.equal(other.outcome, "copied");
  });

  test("keeps the digest where the filter takes all", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    const { index } = addPlatforms(source, "1");
    const result = await start({ platforms: ["linux/arm64", "linux/amd64"] }).copyTag("1");

    assert.equal(target.tagged("1"), index?.digest);
    assert.equal(result.outcome === "copied" && result.digestDiffers, false);
  });

  const matches: [platform: string, wanted: string, isTaken: boolean][] = [
    ["linux/arm64", "linux/arm64/v8", true],
    ["linux/arm64/v8", "linux/arm64", true],
    ["linux/arm/v6", "linux/arm", true],
    ["linux/arm", "linux/arm/v7", true],
    ["linux/arm/v6", "linux/arm/v7", false],
    ["linux/amd64", "linux/amd64/v3", false],
    ["windows/amd64", "linux/amd64", false],
  ];
  for (const [platform, wanted, isTaken] of matches) {
    test(`${isTaken ? "takes" : "leaves"} ${platform} where ${wanted} is wanted`, async ({
      signal,
    }) => {
      const { source, start } = aScene(signal);
      addIndex(source, "1", [{ descriptor: addImage(source, ["x"]), platform }]);
      const result = await start({ platforms: [wanted] }).copyTag("1");

      assert.equal(result.outcome, isTaken ? "copied" : "failed");
    });
  }

  test("fails a tag that has none of them", async ({ signal }) => {
    const { source, start } = aScene(signal);
    addPlatforms(source, "index");
    addImage(source, ["amd64"], { tag: "image" });

    for (const tag of ["index", "image"]) {
      const result = await start({ platforms: ["linux/s390x"] }).copyTag(tag);
      assert.equal(result.outcome === "failed" && result.code, "NO_PLATFORM", tag);
    }
  });

  test("takes an artifact, which is for every platform", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    const config = source.addBlob("{}", "application/vnd.cncf.helm.config.v1+json");
    const value = { mediaType: mediaTypes.ociImage, config: formatDescriptor(config), layers: [] };
    const chart = source.addManifest(value, { tag: "chart" });
    await start({ platforms: ["linux/arm64"] }).copyTag("chart");

    assert.equal(target.tagged("chart"), chart.digest);
  });

  test("leaves of a tag that was copied whole what is wanted now", async ({ signal }) => {
    const { source, target, start } = aScene(signal);
    const { index } = addPlatforms(source, "1");
    await start().copyTag("1");
    source.log.length = 0;
    const filtered = await start({ platforms: ["linux/amd64"] }).copyTag("1");
    assert.equal(filtered.outcome === "copied" && filtered.digestDiffers, true);
    assert.notEqual(target.tagged("1"), index?.digest);

    const again = await start({ platforms: ["linux/amd64"] }).copyTag("1");
    assert.equal(again.outcome, "unchanged");
    const whole = await start().copyTag("1");
    assert.deepEqual([whole.outcome, target.tagged("1")], ["copied", index?.digest]);
  });
});
