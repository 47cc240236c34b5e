import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { anImage } from "#test/kinds.ts";
import { allowance } from "./quota.ts";
import { isPlanOf, planObject, planOf, storableSpec } from "./plan.ts";

describe("planOf()", () => {
  test("names every image in full, once", () => {
    const image = anImage({
      priority: 7,
      repositories: [
        { name: "debian", tags: ["bookworm"], listSelection: "listed" },
        { name: "docker.io/library/debian", tags: ["bookworm", "sid"], listSelection: "listed" },
      ],
    });
    const { spec, referenceProblems } = planOf(image);

    assert.deepEqual(spec, {
      selector: [],
      priority: 7,
      imageGeneration: 1,
      images: [
        { reference: "docker.io/library/debian:bookworm" },
        { reference: "docker.io/library/debian:sid" },
      ],
    });
    assert.deepEqual(referenceProblems, []);
  });

  test("leaves out what cannot be a name, says where it stands, and goes on", () => {
    const image = anImage({
      repositories: [
        { name: "Not A Name", tags: ["1"], listSelection: "listed" },
        { name: "debian", tags: ["bookworm"], listSelection: "listed" },
      ],
    });
    const { spec, referenceProblems } = planOf(image);

    assert.deepEqual(spec.images, [{ reference: "docker.io/library/debian:bookworm" }]);
    assert.deepEqual(
      referenceProblems.map(({ path, value }) => [path, value]),
      [["spec.repositories[0].name", "Not A Name"]],
    );
  });

  test("adds what registries told, and what agents need to know of the Image", () => {
    const digest = `sha256:${"a".repeat(64)}`;
    const sizes = [{ platform: "linux/amd64", sizeBytes: 7 }];
    const image = anImage({ imagePullPolicy: "Always", maxConcurrentNodes: "10%" });
    const { spec } = planOf(image, {
      found: () => ({ digest, sizes }),
      pullSecretsRevision: "r1",
    });

    assert.deepEqual(spec, {
      selector: [],
      priority: 0,
      imageGeneration: 1,
      imagePullPolicy: "Always",
      pullSecretsRevision: "r1",
      maxConcurrentNodes: "10%",
      images: [{ reference: "docker.io/library/debian:bookworm", digest, sizes }],
    });
  });

  // Else its size would be forgotten, it would pass again, be asked for again, and so on for ever.
  test("leaves out what a quota refuses, and still wants it", () => {
    const quota = { allowedRegistries: [], references: 0, bytesPerNode: 5 };
    const { spec, wanted, quotaProblems } = planOf(anImage(), {
      found: () => ({ digest: "sha256:1", sizes: [{ platform: "linux/amd64", sizeBytes: 7 }] }),
      allowance: allowance(quota),
    });

    assert.deepEqual([spec.images, wanted], [[], ["docker.io/library/debian:bookworm"]]);
    assert.match(quotaProblems[0] ?? "", /^docker\.io\/library\/debian:bookworm would pass the 5/);
  });

  test("tells what is wrong with a selector", () => {
    const image = anImage({ selector: [{ key: "disk", operator: "In" }] });
    assert.match(planOf(image).selectorProblems[0] ?? "", /^\[0\]\.values: /);
  });
});

describe("planObject()", () => {
  test("has the Image's name and is owned by it", () => {
    const image = anImage({}, { name: "web", namespace: "shop", uid: "u1" });
    const plan = planObject(image, planOf(image).spec);

    assert.deepEqual([plan.metadata.namespace, plan.metadata.name], ["shop", "web"]);
    assert.equal(isPlanOf(plan, image), true);
    assert.equal(isPlanOf(plan, anImage({}, { ...image.metadata, uid: "u2" })), false);
  });
});

describe("storableSpec()", () => {
  // The API server refuses a plan with such a selector, and then there would be no status either.
  test("asks for nothing where the selector makes no sense", () => {
    const selector = [{ key: "disk", operator: "In", values: [] }] as const;
    const { selector: stored, images } = storableSpec(planOf(anImage({ selector })));

    assert.deepEqual([stored, images], [[], []]);
  });
});
