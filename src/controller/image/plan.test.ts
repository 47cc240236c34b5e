import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { anImage } from "#test/kinds.ts";
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
