import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { WatchPlaces, type PlaceMoves } from "./watch-places.ts";

/** Keys with a place, kept by what `WatchPlaces` tells. */
class Placed {
  readonly keys = new Set<string>();
  readonly places: WatchPlaces;

  constructor(options: { max: number; maxPerNamespace: number }) {
    this.places = new WatchPlaces(options);
  }

  add(...keys: readonly string[]): void {
    for (const key of keys) this.#note(this.places.add(key));
  }

  remove(key: string): void {
    this.keys.delete(key);
    this.#note(this.places.remove(key));
  }

  #note({ given, taken }: PlaceMoves): void {
    for (const key of taken) assert.ok(this.keys.delete(key), `${key} had no place`);
    for (const key of given) {
      assert.ok(!this.keys.has(key), `${key} had a place`);
      this.keys.add(key);
    }
  }
}

describe("WatchPlaces", () => {
  // Thirty-two namespaces with thirty-two Secrets each had all there was, and others nothing.
  test("gives a late namespace its first places, from those that have most", () => {
    const placed = new Placed({ max: 6, maxPerNamespace: 4 });
    placed.add("a/1", "a/2", "a/3", "a/4", "b/1", "b/2");
    placed.add("late/1", "late/2", "late/3");

    assert.deepEqual([...placed.keys].toSorted(), ["a/1", "a/2", "b/1", "b/2", "late/1", "late/2"]);
  });

  test("gives a place that becomes free to the namespace that has fewest", () => {
    const placed = new Placed({ max: 4, maxPerNamespace: 3 });
    placed.add("a/1", "a/2", "a/3", "b/1", "c/1", "c/2");
    assert.deepEqual([...placed.keys].toSorted(), ["a/1", "a/2", "b/1", "c/1"]);
    placed.remove("b/1");
    assert.deepEqual([...placed.keys].toSorted(), ["a/1", "a/2", "c/1", "c/2"]);
  });

  test("gives a namespace no more than it may have, though places are free", () => {
    const placed = new Placed({ max: 9, maxPerNamespace: 2 });
    placed.add("a/1", "a/2", "a/3");
    assert.deepEqual([...placed.keys], ["a/1", "a/2"]);
    placed.remove("a/1");
    assert.deepEqual([...placed.keys], ["a/2", "a/3"]);
  });

  test("has a Secret that comes first by its name, not by its time", () => {
    const placed = new Placed({ max: 2, maxPerNamespace: 2 });
    placed.add("b/2", "b/3", "b/1");
    assert.deepEqual([...placed.keys].toSorted(), ["b/1", "b/2"]);
    placed.add("a/9");
    assert.deepEqual([...placed.keys].toSorted(), ["a/9", "b/1"]);
  });

  // Replicas that had heard of Images in another order watched other Secrets, and gave other logins.
  test("gives the places to the first of each namespace, then to the second, whatever the order", () => {
    const key = fc
      .tuple(fc.constantFrom("a", "b", "c", "d"), fc.nat(5))
      .map(([namespace, name]) => `${namespace}/${name}`);
    const step = fc.record({ key, isAdded: fc.boolean() });
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 80 }),
        fc.integer({ min: 1, max: 9 }),
        (steps, max) => {
          const maxPerNamespace = 4;
          const placed = new Placed({ max, maxPerNamespace });
          const wanted = new Set<string>();
          for (const { key, isAdded } of steps) {
            if (isAdded) {
              wanted.add(key);
              placed.add(key);
            } else {
              wanted.delete(key);
              placed.remove(key);
            }
            const expected = firstOf(wanted, { max, maxPerNamespace });
            assert.deepEqual([...placed.keys].toSorted(), expected.toSorted());
          }
        },
      ),
    );
  });
});

/** Goes round the namespaces, in the order of names, and takes the next Secret of each. */
function firstOf(
  wanted: ReadonlySet<string>,
  { max, maxPerNamespace }: { max: number; maxPerNamespace: number },
): string[] {
  const namespaces = ["a", "b", "c", "d"].map((name) =>
    [...wanted].filter((key) => key.startsWith(`${name}/`)).toSorted(),
  );
  const rounds = Array.from({ length: maxPerNamespace }, (_, round) =>
    namespaces.flatMap((keys) => keys[round] ?? []),
  );
  return rounds.flat().slice(0, max);
}
