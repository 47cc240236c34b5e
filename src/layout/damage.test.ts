import assert from "node:assert/strict";
import { rm, symlink, truncate, writeFile } from "node:fs/promises";
import { describe, test, type TestContext } from "node:test";

import type { ManifestContent } from "#oci/content.ts";
import { formatDescriptor, mediaTypes } from "#oci/manifest.ts";
import {
  aBlob,
  aFolder,
  aManifest,
  anIndex,
  chunks,
  describing,
  digestOf,
  fileOf,
  read,
  write,
} from "#test/layouts.ts";
import type { LayoutRepository } from "./layout-repository.ts";
import { Layout } from "./layout.ts";

interface Scene {
  folder: string;
  repository: LayoutRepository;
  /** As another process sees it. */
  reopen: () => Promise<LayoutRepository>;
}

async function aScene(t: TestContext): Promise<Scene> {
  const folder = await aFolder(t);
  const repository = (await Layout.open(folder, { create: true })).repository();
  return { folder, repository, reopen: async () => (await Layout.open(folder)).repository() };
}

/** Stores an image of a platform, and an index of it under a tag. */
async function putImage(
  repository: LayoutRepository,
  t: TestContext,
): Promise<{ image: ManifestContent; index: ManifestContent }> {
  const image = aManifest("image");
  const index = anIndex([image]);
  await write(repository, "{}", t.signal);
  await repository.putManifest(image.digest, image, t);
  await repository.putManifest("1", index, t);
  return { image, index };
}

describe("A damaged layout", () => {
  for (const [fact, bytes] of [
    ["was cut short", "a la"],
    ["has other bytes", "A LAYER"],
  ] as const) {
    test(`does not have a blob whose file ${fact}, and takes it anew`, async (t) => {
      const { folder, repository, reopen } = await aScene(t);
      const blob = await write(repository, "a layer", t.signal);
      await writeFile(fileOf(folder, blob), bytes);

      for (const each of [repository, await reopen()]) {
        assert.equal(await each.hasBlob(blob.digest, t), false);
      }
      await write(await reopen(), "a layer", t.signal);
      assert.equal(await repository.hasBlob(blob.digest, t), true);
      assert.equal(await read(repository, blob, t.signal), "a layer");
    });
  }

  test("keeps a blob that is right when a manifest says another size", async (t) => {
    const { repository, reopen } = await aScene(t);
    const blob = await write(repository, "a layer", t.signal);
    const wrong = { ...blob, sizeBytes: blob.sizeBytes + 1 };
    const bytes = Buffer.from("a layer");
    const writing = (await reopen()).writeBlob(wrong, (from) => chunks(bytes.subarray(from)), t);

    await assert.rejects(writing, { code: "WRONG_CONTENT" });
    assert.equal(await read(repository, blob, t.signal), "a layer");
  });

  const damages: Record<string, (scene: Scene, image: ManifestContent) => Promise<void>> = {
    "the image's manifest was cut short": ({ folder }, image) =>
      truncate(fileOf(folder, image), 10),
    "the image's manifest is missing": ({ folder }, image) => rm(fileOf(folder, image)),
    "a blob was cut short": ({ folder }) => truncate(fileOf(folder, aBlob("{}")), 1),
    "a blob is missing": ({ folder }) => rm(fileOf(folder, aBlob("{}"))),
  };
  for (const [fact, damage] of Object.entries(damages)) {
    test(`does not find an index if ${fact}, until it is mended`, async (t) => {
      const scene = await aScene(t);
      const { repository } = scene;
      const { image, index } = await putImage(repository, t);
      assert.equal((await repository.find("1", t))?.digest, index.digest);
      await damage(scene, image);

      for (const each of [repository, await scene.reopen()]) {
        for (const name of ["1", index.digest, image.digest]) {
          assert.equal(await each.find(name, t), undefined, name);
        }
      }
      await putImage(repository, t);
      assert.equal((await repository.find("1", t))?.digest, index.digest);
    });
  }

  test("does not find a tag whose own manifest was cut short, until it is mended", async (t) => {
    const { folder, repository, reopen } = await aScene(t);
    const { index } = await putImage(repository, t);
    await truncate(fileOf(folder, index), 10);
    const reopened = await reopen();

    assert.equal(await reopened.find("1", t), undefined);
    await putImage(reopened, t);
    assert.equal((await reopened.find("1", t))?.digest, index.digest);
  });

  test("does not find an index that came as a layer, without its manifests", async (t) => {
    const { repository } = await aScene(t);
    const index = anIndex([aManifest("image")]);
    await write(repository, index.bytes, t.signal);

    assert.equal(await repository.find(index.digest, t), undefined);
  });

  test("finds an index within indexes, and none deeper than copies go", async (t) => {
    const { repository } = await aScene(t);
    let { index } = await putImage(repository, t);
    const found: boolean[] = [];
    for (let depth = 1; depth <= 5; depth++) {
      index = anIndex([index]);
      await repository.putManifest("1", index, t);
      found.push((await repository.find("1", t)) !== undefined);
    }

    assert.deepEqual(found, [true, true, true, false, false]);
  });

  test("as a source tells of what it has, and fails where that is read", async (t) => {
    const { folder, repository } = await aScene(t);
    const { index } = await putImage(repository, t);
    const source = (await Layout.open(folder)).source();
    await rm(fileOf(folder, aBlob("{}")));

    assert.equal((await source.find("1", t))?.digest, index.digest);
    await assert.rejects(read(source, aBlob("{}"), t.signal), { code: "NOT_FOUND" });
    await truncate(fileOf(folder, index), 10);
    await assert.rejects(source.find("1", t), { code: "WRONG_CONTENT" });
  });

  test("tells of referrers beside entries that are broken, and of one that is mended", async (t) => {
    const { folder, repository } = await aScene(t);
    const image = aManifest("image");
    const [first, second] = [aManifest("first", image), aManifest("second", image)];
    for (const each of [first, second]) await repository.putManifest(each.digest, each, t);
    const linked = { mediaType: mediaTypes.ociImage, digest: digestOf("linked"), sizeBytes: 1 };
    const absent = { mediaType: mediaTypes.ociImage, digest: digestOf("absent"), sizeBytes: 1 };
    await symlink("/etc/passwd", fileOf(folder, linked));
    await truncate(fileOf(folder, second), 10);
    const manifests = [linked, absent, describing(second), describing(first), describing(first)];
    const value = { schemaVersion: 2, manifests: manifests.map((each) => formatDescriptor(each)) };
    await writeFile(`${folder}/index.json`, JSON.stringify(value));
    const reopened = (await Layout.open(folder)).repository();
    const referrers = async (): Promise<string[]> =>
      (await reopened.referrers(image.digest, t)).map(({ digest }) => digest);

    assert.deepEqual(await referrers(), [first.digest]);
    assert.deepEqual(await referrers(), [first.digest]);
    await writeFile(fileOf(folder, second), second.bytes);
    assert.deepEqual(await referrers(), [second.digest, first.digest]);
  });

  test("reads a broken entry once, however often it is listed and asked for", async (t) => {
    const { folder } = await aScene(t);
    const junk = JSON.stringify({ a: "x".repeat(4_100_000) });
    const broken = await write((await Layout.open(folder)).repository(), junk, t.signal);
    const entry = formatDescriptor({ ...broken, mediaType: mediaTypes.ociImage });
    const value = { schemaVersion: 2, manifests: Array.from({ length: 200 }, () => entry) };
    await writeFile(`${folder}/index.json`, JSON.stringify(value));
    const repository = (await Layout.open(folder)).repository();
    const before = process.resourceUsage().userCPUTime;
    for (let times = 0; times < 20; times++) await repository.referrers(digestOf("x"), t);
    const usedMs = (process.resourceUsage().userCPUTime - before) / 1_000;

    assert.ok(usedMs < 3_000, `${usedMs} ms, of which one reading takes some 50`);
  });
});
