import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { ImageIndex } from "./image-index.ts";

describe("ImageIndex", () => {
  test("names one who refers to an image, and goes on to the next", () => {
    const index = new ImageIndex(() => {});
    index.set("Pod", "team/a", ["r.test/x:1", "r.test/x:2"]);
    index.set("Job", "team/a", ["r.test/x:1"]);
    assert.equal(index.userOf("r.test/x:1"), "Pod team/a");
    index.set("Pod", "team/a", ["r.test/x:2"]);
    assert.equal(index.userOf("r.test/x:1"), "Job team/a");
    index.set("Job", "team/a", []);
    assert.equal(index.userOf("r.test/x:1"), undefined);
    assert.equal(index.userOf("r.test/x:2"), "Pod team/a");
  });

  test("tells of first and last users alone", () => {
    const told: string[] = [];
    const index = new ImageIndex((repository) => told.push(repository));
    index.set("Pod", "team/a", ["r.test/x:1"]);
    index.set("Pod", "team/b", ["r.test/x:1", "r.test/y:1"]);
    index.set("Pod", "team/a", ["r.test/x:1"]);
    index.set("Pod", "team/a", []);
    assert.deepEqual(told, ["r.test/x", "r.test/y"]);
    index.set("Pod", "team/b", ["r.test/y:1"]);
    assert.deepEqual(told, ["r.test/x", "r.test/y", "r.test/x"]);
  });

  test("knows what a look at all objects knows", () => {
    const change = fc.record({
      kind: fc.constantFrom("Pod", "Job"),
      key: fc.constantFrom("a/a", "a/b"),
      images: fc.uniqueArray(fc.constantFrom("r.test/x:1", "r.test/x:2", "r.test/y:1")),
    });
    fc.assert(
      fc.property(fc.array(change), (changes) => {
        const index = new ImageIndex(() => {});
        const all = new Map<string, readonly string[]>();
        for (const { kind, key, images } of changes) {
          index.set(kind, key, images);
          all.set(`${kind} ${key}`, images);
        }
        for (const image of ["r.test/x:1", "r.test/x:2", "r.test/y:1"]) {
          const user = index.userOf(image);
          const isUsed = [...all.values()].some((images) => images.includes(image));
          assert.equal(user !== undefined, isUsed);
          if (user !== undefined) assert.ok(all.get(user)?.includes(image));
        }
      }),
    );
  });
});
