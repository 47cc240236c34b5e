import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";

import { isJsonObject, textOf } from "#json/json.ts";
import { mediaTypes } from "#oci/manifest.ts";
import { aFolder, aManifest, anIndex, describing } from "#test/layouts.ts";
import { maxIndexBytes } from "./layout-index.ts";
import { Layout } from "./layout.ts";

/** The digests that `index.json` names without a name, sorted. */
async function unnamed(folder: string): Promise<string[]> {
  const index: unknown = JSON.parse(await readFile(join(folder, "index.json"), "utf8"));
  const manifests: unknown = isJsonObject(index) ? index["manifests"] : [];
  assert.ok(Array.isArray(manifests));
  const entries = manifests.filter(isJsonObject).filter((entry) => !("annotations" in entry));
  return entries.map(({ digest }) => textOf(digest)).sort();
}

async function aLayout(t: TestContext): Promise<{ folder: string; layout: Layout }> {
  const folder = await aFolder(t);
  return { folder, layout: await Layout.open(folder, { create: true }) };
}

describe("The entries of a layout", () => {
  test("are none in one that is new, and of several that make it at once", async (t) => {
    const folder = await aFolder(t);
    await Promise.all([1, 2, 3].map(() => Layout.open(folder, { create: true })));

    assert.deepEqual(JSON.parse(await readFile(join(folder, "index.json"), "utf8")), {
      schemaVersion: 2,
      mediaType: mediaTypes.ociIndex,
      manifests: [],
    });
  });

  test("name what was stored by its digest, until an index names it", async (t) => {
    const { folder, layout } = await aLayout(t);
    const repository = layout.repository("ghcr.io/a/b");
    const [image, other] = [aManifest("image"), aManifest("other")];
    const signature = aManifest("signature", image);
    for (const each of [image, other, signature]) {
      await repository.putManifest(each.digest, each, t);
    }
    assert.deepEqual(await unnamed(folder), [image.digest, other.digest, signature.digest].sort());
    const index = anIndex([image, signature]);
    await repository.putManifest(index.digest, index, t);
    assert.deepEqual(await unnamed(folder), [other.digest, signature.digest, index.digest].sort());

    await repository.putManifest("1", anIndex([index]), t);
    assert.deepEqual(await unnamed(folder), [other.digest, signature.digest].sort());
  });

  test("stay as others wrote them, even if an index names the same", async (t) => {
    const { folder, layout } = await aLayout(t);
    const image = aManifest("image");
    const { mediaType, digest, sizeBytes } = describing(image);
    const entry = { size: sizeBytes, digest, mediaType };
    const value = { schemaVersion: 2, manifests: [entry] };
    await writeFile(join(folder, "index.json"), JSON.stringify(value));
    await layout.repository().putManifest(digest, image, t);
    await layout.repository().putManifest("1", anIndex([image]), t);

    assert.deepEqual(await unnamed(folder), [digest]);
  });

  test("keep a signature that another repository needs", async (t) => {
    const { layout } = await aLayout(t);
    const [one, two] = [layout.repository("h.test/a"), layout.repository("h.test/b")];
    const image = aManifest("image");
    const signature = aManifest("signature", image);
    const countersigned = aManifest("signature of the signature", signature);
    for (const each of [image, signature, countersigned]) {
      await one.putManifest(each.digest, each, t);
    }
    await one.putManifest("1", anIndex([image]), t);
    await two.putManifest("1", image, t);

    for (const each of [signature, countersigned]) await one.deleteManifest(each.digest, t);
    assert.equal((await two.referrers(image.digest, t)).length, 1);
    assert.equal((await two.referrers(signature.digest, t)).length, 1);

    await two.deleteManifest(image.digest, t);
    await one.deleteManifest(anIndex([image]).digest, t);
    assert.equal(await two.deleteManifest(signature.digest, t), "deleted");
    assert.deepEqual(await two.referrers(image.digest, t), []);
    assert.equal(await two.manifest(signature.digest, t), undefined);
  });

  test("may be more than 25,000, and are refused where the index could not be read any more", async (t) => {
    const { folder, layout } = await aLayout(t);
    const image = aManifest("image");
    const { mediaType, digest, sizeBytes: size } = describing(image);
    const manifests = Array.from({ length: 26_000 }, (_, number) => {
      const annotations = { "org.opencontainers.image.ref.name": `t${number}` };
      return { mediaType, digest, size, annotations };
    });
    const entries = JSON.stringify({ schemaVersion: 2, manifests });
    const filler = "x".repeat(maxIndexBytes - entries.length - 600);
    const value = { schemaVersion: 2, annotations: { filler }, manifests };
    await writeFile(join(folder, "index.json"), JSON.stringify(value));
    const moved = aManifest("moved");
    const tags = Array.from({ length: 4 }, (_, number) => `new${number}`);
    const outcomes = await Promise.allSettled([
      ...tags.map((tag) => layout.repository().putManifest(tag, image, t)),
      layout.repository().putManifest("t0", moved, t),
    ]);

    const refused = outcomes.filter((outcome) => outcome.status === "rejected");
    assert.ok(refused.length > 0 && refused.length < tags.length, `${refused.length} are refused`);
    for (const { reason } of refused) assert.match(String(reason), /"index.json" has no more room/);
    assert.equal(outcomes.at(-1)?.status, "fulfilled", "what moves needs no room");
    const reopened = (await Layout.open(folder)).repository();
    const found = await Array.fromAsync(reopened.tags(t));
    assert.equal(found.length, manifests.length + tags.length - refused.length);
    assert.equal((await reopened.manifest("t0", t))?.digest, moved.digest);
  });
});
