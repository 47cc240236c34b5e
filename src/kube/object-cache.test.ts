import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { ObjectCache } from "./object-cache.ts";
import { nodes } from "./resource.ts";
import type { Node } from "./types.ts";

describe("ObjectCache", () => {
  const colours = ["red", "green", "blue"];
  const coloursOf = ({ metadata }: Node): string[] =>
    colours.filter((colour) => metadata.labels?.[colour] !== undefined);

  test("has the same objects by index as by looking at each, after any changes", () => {
    const change = fc.record({
      name: fc.constantFrom("a", "b", "c"),
      uid: fc.constantFrom("1", "2"),
      labels: fc.option(fc.subarray(colours), { nil: undefined }),
    });
    const property = fc.property(fc.array(change), (changes) => {
      const cache = new ObjectCache({ read: nodes.parse, indexes: { colour: coloursOf } });
      /** What somebody knows who hears of nothing but changes. */
      const heard = new Map<string, Node>();
      for (const [version, { name, uid, labels }] of changes.entries()) {
        const metadata = {
          name,
          uid,
          resourceVersion: String(version),
          labels: Object.fromEntries((labels ?? []).map((colour) => [colour, ""])),
        };
        for (const told of labels ? cache.put({ metadata }) : cache.remove(name)) {
          assert.equal(told.type === "added", !heard.has(told.key));
          if (told.type === "deleted") heard.delete(told.key);
          else heard.set(told.key, told.object);
        }
      }
      assert.deepEqual(new Map(cache.entries()), heard);
      for (const colour of colours) {
        const byLooking = cache.list({}).filter((node) => coloursOf(node).includes(colour));
        assert.deepEqual(new Set(cache.byIndex("colour", colour)), new Set(byLooking));
      }
    });
    fc.assert(property);
  });

  test("tells nothing of a version that it has", () => {
    const cache = new ObjectCache({ read: nodes.parse, indexes: {} });
    const metadata = { name: "a", uid: "1", resourceVersion: "7" };
    assert.equal(cache.put({ metadata }).length, 1);
    assert.deepEqual(cache.put({ metadata }), []);
  });

  test("stays as it was when an index cannot be made", () => {
    const indexes = {
      fussy: ({ metadata }: Node): string[] => {
        if (metadata.labels) throw new Error("no labels, please");
        return ["plain"];
      },
    };
    const cache = new ObjectCache({ read: nodes.parse, indexes });
    cache.put({ metadata: { name: "a", resourceVersion: "1" } });
    const labelled = { metadata: { name: "a", resourceVersion: "2", labels: {} } };
    assert.throws(() => cache.put(labelled), { message: "no labels, please" });
    assert.equal(cache.byIndex("fussy", "plain")[0]?.metadata.resourceVersion, "1");
  });
});
