import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { FakeError } from "#test/fake-repository.ts";
import { addImage, addIndex } from "#test/images.ts";
import { aScene, type CopyScene } from "#test/copy-scene.ts";

/** Images of few layers, so that they have some in common; indexes of images; and what refers to them. */
const graph = fc.record({
  images: fc.array(fc.array(fc.nat({ max: 5 }), { maxLength: 4 }), { minLength: 1, maxLength: 6 }),
  indexes: fc.array(fc.array(fc.nat({ max: 5 }), { minLength: 1, maxLength: 3 }), { maxLength: 3 }),
  subjects: fc.array(fc.nat({ max: 8 }), { maxLength: 3 }),
});

type Graph = typeof graph extends fc.Arbitrary<infer T> ? T : never;

const broken = new FakeError("UNREACHABLE", { retryable: true });

/** @returns the tags. */
function build({ source }: CopyScene, { images, indexes, subjects }: Graph): string[] {
  const tags: string[] = [];
  const tagOf = (kind: string, index: number): string => {
    tags.push(`${kind}${index}`);
    return `${kind}${index}`;
  };
  const built = images.map((layers, index) =>
    addImage(source, layers.map(String), { tag: tagOf("image", index) }),
  );
  for (const [index, children] of indexes.entries()) {
    const named = children.flatMap((child) => built[child % images.length] ?? []);
    built.push(
      addIndex(
        source,
        tagOf("index", index),
        named.map((descriptor) => ({ descriptor, platform: "linux/amd64" })),
      ),
    );
  }
  for (const [index, subject] of subjects.entries()) {
    const about = built[subject % built.length];
    if (about) built.push(addImage(source, [`referrer ${index}`], { subject: about }));
  }
  return tags;
}

async function copyAll(scene: CopyScene, tags: readonly string[]): Promise<string[]> {
  const copy = scene.start();
  const results = await Promise.all(tags.map((tag) => copy.copyTag(tag)));
  return results.map(({ outcome }) => outcome);
}

describe("RepositoryCopy", () => {
  test("brings all there is, and then finds nothing to do", async ({ signal }) => {
    await fc.assert(
      fc.asyncProperty(graph, async (wanted) => {
        const scene = aScene(signal);
        const tags = build(scene, wanted);
        const first = await copyAll(scene, tags);
        const { receivedBytes } = scene.target;
        const second = await copyAll(scene, tags);

        assert.ok(first.every((outcome) => outcome === "copied"));
        assert.ok(second.every((outcome) => outcome === "unchanged"));
        assert.deepEqual(scene.target.digests(), scene.source.digests());
        assert.equal(scene.target.receivedBytes, receivedBytes);
        const written = scene.target.asked("writeBlob");
        assert.equal(written.length, new Set(written).size);
      }),
    );
  });

  test("comes to the same however often it is broken off", async ({ signal }) => {
    await fc.assert(
      fc.asyncProperty(graph, fc.nat({ max: 20 }), async (wanted, place) => {
        const scene = aScene(signal);
        const { source, target } = scene;
        const tags = build(scene, wanted);
        const digests = source.digests();
        const victim = digests[place % digests.length] ?? "";
        for (const act of ["blob", "manifest"] as const) source.fail(act, victim, broken, 1);
        for (const act of ["writeBlob", "putManifest"] as const)
          target.fail(act, victim, broken, 1);
        for (const tag of tags) target.fail("putManifest", tag, broken, 1);
        for (let runs = 0; runs < 4; runs++) {
          await copyAll(scene, tags);
          // The fake refuses manifests without their content: a tag that is there is whole.
          for (const tag of tags)
            assert.ok([undefined, source.tagged(tag)].includes(target.tagged(tag)));
        }

        assert.deepEqual(target.digests(), digests);
      }),
    );
  });
});
