import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Ownership } from "#mirror/ownership.ts";
import { removeCopies } from "#mirror/removal.ts";
import type { ContentTarget, ManifestContent } from "#oci/content.ts";
import { formatDescriptor, mediaTypes } from "#oci/manifest.ts";
import type { Removes } from "#test/fake-repository.ts";
import { aBlob, digestOf, inChunks, type TargetUnderTest } from "./content-suite.ts";

const { ociImage, ociIndex } = mediaTypes;
const { signal } = new AbortController();

/** Writes an image of one layer. */
async function putImage(
  target: ContentTarget,
  seed: string,
  tags: readonly string[],
): Promise<ManifestContent> {
  const config = aBlob(100, `config of ${seed}`, "application/vnd.oci.image.config.v1+json");
  const layer = aBlob(1_000, `layer of ${seed}`);
  for (const { descriptor, bytes } of [config, layer]) {
    await target.writeBlob(descriptor, (fromByte) => inChunks(bytes, fromByte), { signal });
  }
  const contents = {
    config: formatDescriptor(config.descriptor),
    layers: [formatDescriptor(layer.descriptor)],
  };
  return await put(target, ociImage, contents, tags);
}

async function putIndex(
  target: ContentTarget,
  images: readonly ManifestContent[],
  tags: readonly string[],
): Promise<ManifestContent> {
  const manifests = images.map(({ mediaType, digest, bytes }, place) => ({
    ...formatDescriptor({ mediaType, digest, sizeBytes: bytes.length }),
    platform: { os: "linux", architecture: ["amd64", "arm64"][place] },
  }));
  return await put(target, ociIndex, { manifests }, tags);
}

async function put(
  target: ContentTarget,
  mediaType: string,
  contents: object,
  tags: readonly string[],
): Promise<ManifestContent> {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...contents }));
  const manifest = { mediaType, digest: digestOf(bytes), bytes };
  for (const name of [manifest.digest, ...tags])
    await target.putManifest(name, manifest, { signal });
  return manifest;
}

async function tagsOf(target: ContentTarget): Promise<string[]> {
  return (await Array.fromAsync(target.tags({ signal }))).sort();
}

/**
 * Declares what every {@link ContentTarget} does that removes so much, and what Coral removes there.
 *
 * @param name - of the kind of target, like `An OCI layout`.
 */
export function removalSuite(
  name: string,
  removes: Removes,
  start: () => Promise<TargetUnderTest>,
): void {
  const removesTags = removes === "tags and digests";
  const removesDigests = removes !== "nothing";

  describe(`${name}, which removes ${removes}`, () => {
    let under: TargetUnderTest;

    before(async () => {
      under = await start();
    });

    after(async () => {
      await under?.[Symbol.asyncDispose]();
    });

    test("removes a manifest by its digest with all its tags, once", async () => {
      const target = under.repository("removal/digest");
      const { digest } = await putImage(target, "1", ["a", "b"]);
      await putImage(target, "2", ["c"]);
      const answers = [
        await target.deleteManifest(digest, { signal }),
        await target.deleteManifest(digest, { signal }),
      ];

      assert.deepEqual(
        answers,
        removesDigests ? ["deleted", "absent"] : ["unsupported", "unsupported"],
      );
      assert.equal((await target.find(digest, { signal })) === undefined, removesDigests);
      assert.deepEqual(await tagsOf(target), removesDigests ? ["c"] : ["a", "b", "c"]);
    });

    test("removes a tag alone, once", async () => {
      const target = under.repository("removal/tag");
      const { digest } = await putImage(target, "1", ["a", "b"]);
      const answers = [
        await target.deleteManifest("a", { signal }),
        await target.deleteManifest("a", { signal }),
      ];

      assert.deepEqual(
        answers,
        removesTags ? ["deleted", "absent"] : ["unsupported", "unsupported"],
      );
      assert.deepEqual(await tagsOf(target), removesTags ? ["b"] : ["a", "b"]);
      for (const each of ["b", digest]) {
        assert.equal((await target.find(each, { signal }))?.digest, digest);
      }
    });

    test("knows of nothing what it could remove", async () => {
      const target = under.repository("removal/tag");
      const absent = digestOf(Buffer.from("absent"));

      assert.equal(
        await target.deleteManifest(absent, { signal }),
        removesDigests ? "absent" : "unsupported",
      );
      assert.equal(
        await target.deleteManifest("absent", { signal }),
        removesTags ? "absent" : "unsupported",
      );
    });

    test("keeps the images of an index that is removed", async () => {
      const target = under.repository("removal/index");
      const images = [await putImage(target, "1", []), await putImage(target, "2", [])];
      const { digest } = await putIndex(target, images, ["i"]);
      await target.deleteManifest(digest, { signal });

      for (const image of images) {
        assert.equal((await target.find(image.digest, { signal }))?.digest, image.digest);
      }
    });

    test("loses copies on record, and nothing that others need", async () => {
      const target = under.repository("removal/copies");
      const image = await putImage(target, "1", ["old", "shared", "by-hand"]);
      const child = await putImage(target, "2", ["child"]);
      const gone = await putImage(target, "3", ["gone", "gone-too"]);
      const index = await putIndex(target, [image, child], ["index"]);
      const owner = { cluster: "c", namespace: "team", mirror: "app" };
      const names = {
        old: image.digest,
        shared: image.digest,
        child: child.digest,
        gone: gone.digest,
        "gone-too": gone.digest,
        index: index.digest,
      };
      const approved = Object.entries(names).map(([tag, digest]) => ({ tag, digest }));
      const first = await Ownership.read(target, owner, { signal });
      await first.claim(Object.keys(names), { signal });
      const copied = new Map(Object.entries(names));
      const found = { copied, unchanged: new Map(), isComplete: true };
      const selected = new Set(["index"]);
      const now = new Date("2026-01-01T00:00:00Z");
      await first.settle({ ...found, selected }, { now, signal });
      const ownership = await Ownership.read(target, owner, { signal });
      const answer = await removeCopies(target, approved, { ownership, selected, signal });

      assert.equal(answer.isUnsupported, !removesDigests);
      const left = {
        "tags and digests": ["by-hand", "index"],
        digests: ["by-hand", "child", "index", "old", "shared"],
        nothing: ["by-hand", "child", "gone", "gone-too", "index", "old", "shared"],
      }[removes];
      assert.deepEqual(await tagsOf(target), [...left, ownership.tag].sort());
      assert.deepEqual(
        answer.removed.toSorted(),
        Object.keys(names)
          .filter((tag) => !left.includes(tag))
          .sort(),
      );
      for (const { digest } of [image, child, index]) {
        assert.equal((await target.find(digest, { signal }))?.digest, digest);
      }
      const after = await Ownership.read(target, owner, { signal });
      for (const [tag, digest] of Object.entries(names)) {
        assert.equal(after.digestOf(tag), left.includes(tag) ? digest : undefined, tag);
      }
    });
  });
}
