import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import type { Image } from "#api/v1/image.ts";
import type { ImagePlanSpec } from "#api/v1/image-plan.ts";
import { anImage } from "#test/kinds.ts";
import { isOlder, QuotaUsage } from "./quota-usage.ts";

const references = ["r1", "r2", "r3", "r4"];

function aPlan(sizes: Readonly<Record<string, number | undefined>>): ImagePlanSpec {
  const images = Object.entries(sizes).map(([reference, sizeBytes]) =>
    sizeBytes === undefined
      ? { reference }
      : { reference, sizes: [{ platform: "linux/amd64", sizeBytes }] },
  );
  return { selector: [], priority: 0, images };
}

function created(name: string, second: number, namespace = "team"): Image {
  const creationTimestamp = `2026-01-01T00:00:0${second}Z`;
  const { metadata, spec } = anImage({}, { name, namespace });
  return { metadata: { ...metadata, creationTimestamp }, spec };
}

describe("QuotaUsage", () => {
  test("has of an Image's namespace what older Images take, each reference once", () => {
    const usage = new QuotaUsage();
    const [first, second, third] = [created("z", 1), created("b", 2), created("c", 2)];
    usage.set(third, aPlan({ r4: 1 }));
    usage.set(second, aPlan({ r1: 7, r2: undefined }));
    usage.set(first, aPlan({ r1: 5 }));
    usage.set(created("other", 0, "others"), aPlan({ r3: 100 }));
    const { references: number, bytes, sizeOf } = usage.takenBefore(third);

    assert.deepEqual([number, bytes], [2, 7]);
    assert.deepEqual(references.map(sizeOf), [7, 0, undefined, undefined]);
    assert.equal(usage.takenBefore(first).references, 0);
  });

  const size = fc.option(fc.nat(9), { nil: undefined });
  const step = fc.record({
    name: fc.constantFrom("a", "b", "c", "d"),
    second: fc.nat(3),
    plan: fc.option(fc.dictionary(fc.constantFrom(...references), size), { nil: undefined }),
  });

  test("equals a count from scratch after any sequence of changes", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const usage = new QuotaUsage();
        const world = new Map<string, { image: Image; plan: ImagePlanSpec }>();
        for (const { name, second, plan } of steps) {
          const image = created(name, second);
          if (plan) world.set(name, { image, plan: aPlan(plan) });
          else world.delete(name);
          const entry = world.get(name);
          if (entry) usage.set(entry.image, entry.plan);
          else usage.delete(`team/${name}`);
        }
        for (const image of [...world.values().map((entry) => entry.image), created("new", 9)]) {
          const older = world
            .values()
            .filter((entry) => isOlder(entry.image.metadata, image.metadata));
          const sizes = new Map<string, number>();
          for (const { reference, sizes: list } of older.flatMap(({ plan }) => plan.images)) {
            const sizeBytes = list?.[0]?.sizeBytes ?? 0;
            sizes.set(reference, Math.max(sizes.get(reference) ?? 0, sizeBytes));
          }
          const taken = usage.takenBefore(image);
          assert.equal(taken.references, sizes.size);
          assert.equal(
            taken.bytes,
            sizes.values().reduce((sum, each) => sum + each, 0),
          );
          for (const reference of references) {
            assert.equal(taken.sizeOf(reference), sizes.get(reference));
          }
        }
      }),
    );
  });
});
