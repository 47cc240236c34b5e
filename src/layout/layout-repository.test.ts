import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { hash } from "node:crypto";
import { once } from "node:events";
import { mkdir, readdir, readFile, rename, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";

import { formatDescriptor, mediaTypes } from "#oci/manifest.ts";
import { aBlob, aFolder, aManifest, chunks, digestOf, read, write } from "#test/layouts.ts";
import { LayoutError } from "./layout-error.ts";
import type { LayoutRepository } from "./layout-repository.ts";
import { Layout } from "./layout.ts";

async function tagsOf(repository: LayoutRepository, signal: AbortSignal): Promise<string[]> {
  return Array.fromAsync(repository.tags({ signal }));
}

const isBadLayout = (error: unknown): boolean =>
  error instanceof LayoutError && error.code === "BAD_LAYOUT";

describe("LayoutRepository", () => {
  test("makes a layout that other tools read", async (t) => {
    const folder = join(await aFolder(t), "new", "layout");
    const repository = (await Layout.open(folder, { create: true })).repository();
    const image = aManifest("one");
    await repository.putManifest("1", image, t);

    assert.deepEqual(JSON.parse(await readFile(join(folder, "oci-layout"), "utf8")), {
      imageLayoutVersion: "1.0.0",
    });
    assert.deepEqual(JSON.parse(await readFile(join(folder, "index.json"), "utf8")), {
      schemaVersion: 2,
      mediaType: mediaTypes.ociIndex,
      manifests: [
        {
          mediaType: image.mediaType,
          digest: image.digest,
          size: image.bytes.length,
          annotations: { "org.opencontainers.image.ref.name": "1" },
        },
      ],
    });
    const [algorithm = "", hex = ""] = image.digest.split(":");
    assert.deepEqual(await readFile(join(folder, "blobs", algorithm, hex)), image.bytes);
  });

  test("opens nothing that is no layout", async (t) => {
    const folder = await aFolder(t);
    await assert.rejects(Layout.open(join(folder, "none")), LayoutError);
    await assert.rejects(Layout.open(folder), isBadLayout);
    await writeFile(join(folder, "my-file"), "");
    await assert.rejects(Layout.open(folder, { create: true }), isBadLayout);
    await writeFile(join(folder, "oci-layout"), '{"imageLayoutVersion":"9.0.0"}');
    await assert.rejects(Layout.open(folder, { create: true }), isBadLayout);
  });

  test("keeps several repositories in one directory apart", async (t) => {
    const folder = await aFolder(t);
    const layout = await Layout.open(folder, { create: true });
    const [one, two] = ["ghcr.io/a/b", "debian"].map((name) => layout.repository(name));
    assert.ok(one && two);
    await write(one, "{}", t.signal);
    await one.putManifest("1", aManifest("one"), t);
    await two.putManifest("1", aManifest("two"), t);
    await two.putManifest("2", aManifest("two"), t);

    assert.deepEqual(await tagsOf(one, t.signal), ["1"]);
    assert.deepEqual(await tagsOf(two, t.signal), ["1", "2"]);
    assert.equal((await one.find("1", t))?.digest, aManifest("one").digest);
    assert.deepEqual(await layout.repositories(t), ["docker.io/library/debian", "ghcr.io/a/b"]);

    await one.putManifest("shared", aManifest("two"), t);
    await two.deleteManifest(aManifest("two").digest, t);
    assert.deepEqual(await tagsOf(two, t.signal), []);
    assert.equal((await one.manifest("shared", t))?.digest, aManifest("two").digest);
    await one.deleteManifest(aManifest("two").digest, t);
    assert.equal(await one.find(aManifest("two").digest, t), undefined);
  });

  test("reads names as containerd, BuildKit and others write them", async (t) => {
    const folder = await aFolder(t);
    const repository = (await Layout.open(folder, { create: true })).repository();
    const image = aManifest("one");
    await repository.putManifest(image.digest, image, t);
    const entry = { mediaType: image.mediaType, digest: image.digest, size: image.bytes.length };
    const refName = "org.opencontainers.image.ref.name";
    const manifests = [
      { ...entry, annotations: { [refName]: "1", "io.containerd.image.name": "ghcr.io/a/b:1" } },
      { ...entry, annotations: { [refName]: "ghcr.io/a/b:2" } },
      { ...entry, annotations: { [refName]: "not a tag" } },
      entry,
      "nonsense",
    ];
    await writeFile(join(folder, "index.json"), JSON.stringify({ schemaVersion: 2, manifests }));
    const named = (await Layout.open(folder)).repository("ghcr.io/a/b");

    assert.deepEqual(await tagsOf(repository, t.signal), ["1"]);
    assert.deepEqual(await tagsOf(named, t.signal), ["1", "2"]);

    await named.putManifest("3", image, t);
    const index: unknown = JSON.parse(await readFile(join(folder, "index.json"), "utf8"));
    assert.deepEqual(index, {
      schemaVersion: 2,
      manifests: [...manifests, { ...entry, annotations: { [refName]: "ghcr.io/a/b:3" } }],
    });
  });

  test("finds referrers by their subject, and those that a fallback tag lists", async (t) => {
    const repository = (await Layout.open(await aFolder(t), { create: true })).repository();
    const image = aManifest("image");
    const signature = aManifest("signature", image);
    await repository.putManifest(signature.digest, signature, t);
    await repository.putManifest("1", image, t);
    const other = { mediaType: mediaTypes.ociImage, digest: digestOf("x"), sizeBytes: 1 };
    const list = { mediaType: mediaTypes.ociIndex, manifests: [formatDescriptor(other)] };
    const bytes = Buffer.from(JSON.stringify(list));
    await repository.putManifest(
      image.digest.replace(":", "-"),
      { mediaType: mediaTypes.ociIndex, digest: digestOf(bytes), bytes },
      t,
    );

    const found = await repository.referrers(image.digest, t);
    assert.deepEqual(found, [
      {
        mediaType: mediaTypes.ociImage,
        digest: signature.digest,
        sizeBytes: signature.bytes.length,
        artifactType: "test/thing",
      },
      other,
    ]);
  });

  test("does not follow links out of the directory", async (t) => {
    const outside = await aFolder(t);
    await writeFile(join(outside, hash("sha256", "secret")), "secret");
    const secret = aBlob("secret");

    const linkedFolder = await aFolder(t);
    await Layout.open(linkedFolder, { create: true });
    await mkdir(join(linkedFolder, "blobs"));
    await symlink(outside, join(linkedFolder, "blobs", "sha256"));
    const first = (await Layout.open(linkedFolder)).repository();
    await assert.rejects(read(first, secret, t.signal), isBadLayout);
    await assert.rejects(first.putManifest("1", aManifest("x"), t), isBadLayout);
    assert.deepEqual(await readdir(outside), [hash("sha256", "secret")]);

    const linkedFile = await aFolder(t);
    const second = (await Layout.open(linkedFile, { create: true })).repository();
    await mkdir(join(linkedFile, "blobs", "sha256"), { recursive: true });
    const name = secret.digest.replace("sha256:", "");
    await symlink(join(outside, name), join(linkedFile, "blobs", "sha256", name));
    await assert.rejects(read(second, secret, t.signal), isBadLayout);
  });

  test("refuses an index that is no index, or too large", async (t) => {
    const folder = await aFolder(t);
    const repository = (await Layout.open(folder, { create: true })).repository();
    for (const text of ["[]", "{", '{"manifests":{}}', " ".repeat(9 * 1_024 * 1_024)]) {
      await writeFile(join(folder, "index.json"), text);
      await assert.rejects(repository.find("1", t), isBadLayout);
    }
  });

  test("refuses a manifest whose bytes were changed on the disk", async (t) => {
    const folder = await aFolder(t);
    const repository = (await Layout.open(folder, { create: true })).repository();
    const image = aManifest("one");
    await repository.putManifest("1", image, t);
    const path = join(folder, "blobs", "sha256", image.digest.replace("sha256:", ""));
    await rename(path, `${path}.old`);
    await writeFile(path, aManifest("two").bytes);

    await assert.rejects(repository.manifest("1", t), { code: "WRONG_CONTENT" });
    await repository.putManifest("1", image, t);
    assert.deepEqual((await repository.manifest("1", t))?.bytes, image.bytes);
  });

  test("finds an image by its digest only if its blobs are there", async (t) => {
    const repository = (await Layout.open(await aFolder(t), { create: true })).repository();
    const image = aManifest("one");
    const asBlob = { mediaType: "text/plain", digest: image.digest, sizeBytes: image.bytes.length };
    await repository.writeBlob(asBlob, () => chunks(image.bytes), t);
    assert.equal(await repository.find(image.digest, t), undefined);
    await write(repository, "{}", t.signal);

    assert.equal((await repository.find(image.digest, t))?.digest, image.digest);
  });

  test("loses no tag when two processes write at the same time", async (t) => {
    const folder = await aFolder(t);
    await Layout.open(folder, { create: true });
    const script = `
      import { Layout } from ${JSON.stringify(import.meta.resolve("./layout.ts"))};
      const [folder, prefix, content] = process.argv.slice(1);
      const { mediaType, digest, bytes } = JSON.parse(content);
      const repository = (await Layout.open(folder)).repository();
      const signal = AbortSignal.timeout(60_000);
      await Promise.all(Array.from({ length: 25 }, (_, index) =>
        repository.putManifest(prefix + index, { mediaType, digest, bytes: Buffer.from(bytes) }, { signal })));
    `;
    const { bytes, ...image } = aManifest("one");
    const content = JSON.stringify({ ...image, bytes: bytes.toString() });
    const writers = ["a", "b"].map((prefix) =>
      spawn(
        process.execPath,
        ["--input-type=module", "-e", script, "--", folder, prefix, content],
        { stdio: "inherit" },
      ),
    );
    const exits = await Promise.all(writers.map((writer) => once(writer, "exit")));

    assert.deepEqual(exits, [
      [0, null],
      [0, null],
    ]);
    const repository = (await Layout.open(folder)).repository();
    assert.equal((await tagsOf(repository, t.signal)).length, 50);
  });
});
