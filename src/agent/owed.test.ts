import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { Requirement } from "#api/v1/selector.ts";
import { aPlan } from "#test/agent-world.ts";
import { maxOwedImages, owedBy } from "./owed.ts";

const gpuOnly: Requirement[] = [{ key: "gpu", operator: "Exists" }];
const broken: Requirement[] = [{ key: "gpu", operator: "In" }];

function references(...args: Parameters<typeof owedBy>): string[] {
  return [...owedBy(...args).images.keys()];
}

function many(name: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `r.io/${name}:${index}`);
}

describe("owedBy()", () => {
  test("takes the images of the plans that select the node", () => {
    const plans = [
      aPlan("a/all", ["r.io/x:1"]),
      aPlan("a/gpu", ["r.io/y:1"], { selector: gpuOnly }),
    ];

    assert.deepEqual(references(plans, {}), ["r.io/x:1"]);
    assert.deepEqual(references(plans, { gpu: "yes" }), ["r.io/x:1", "r.io/y:1"]);
  });

  test("gives a reference of two plans the higher priority and both namespaces", () => {
    const plans = [
      aPlan("b/two", ["r.io/x:1"], { priority: 7 }),
      aPlan("a/one", ["r.io/x:1"], { priority: -1 }),
    ];

    const image = owedBy(plans, {}).images.get("r.io/x:1");
    assert.equal(image?.priority, 7);
    assert.deepEqual(image?.namespaces, ["a", "b"]);
  });

  test("takes two spellings for one image", () => {
    const plan = aPlan("a/one", ["debian", "docker.io/library/debian:latest"]);

    assert.deepEqual(references([plan], {}), ["docker.io/library/debian:latest"]);
  });

  test("lets a broken selector and a broken name concern only themselves", () => {
    const plans = [
      aPlan("a/broken", ["r.io/x:1"], { selector: broken }),
      aPlan("b/half", ["r.io/UPPER:1", "r.io/y:1"]),
      aPlan("c/good", ["r.io/z:1"]),
    ];
    const { images, problems } = owedBy(plans, {});

    assert.deepEqual([...images.keys()], ["r.io/y:1", "r.io/z:1"]);
    assert.equal(problems.length, 2);
    assert.match(problems[0] ?? "", /^a\/broken: selector\[0\]\.values/);
    assert.match(problems[1] ?? "", /^b\/half: "r\.io\/UPPER:1"/);
  });

  test("changes the version of an image with each change of a plan that names it, and no other", () => {
    const other = aPlan("a/other", ["r.io/y:1"]);
    const before = owedBy([aPlan("a/one", ["r.io/x:1"]), other], {}).images;
    const after = owedBy([aPlan("a/one", ["r.io/x:1"], { generation: 2 }), other], {}).images;

    assert.notEqual(after.get("r.io/x:1")?.version, before.get("r.io/x:1")?.version);
    assert.equal(after.get("r.io/y:1")?.version, before.get("r.io/y:1")?.version);
  });

  test("observes the plans that select the node, in any order", () => {
    const one = aPlan("a/one", ["r.io/x:1"]);
    const two = aPlan("a/two", ["r.io/y:1"]);
    const gpu = aPlan("a/gpu", [], { selector: gpuOnly });
    const { observedPlan } = owedBy([one, two], {});

    assert.match(observedPlan, /^[0-9a-f]{16}$/);
    assert.equal(owedBy([two, gpu, one], {}).observedPlan, observedPlan);
    assert.notEqual(owedBy([one], {}).observedPlan, observedPlan);
    assert.notEqual(owedBy([two, gpu, one], { gpu: "" }).observedPlan, observedPlan);
  });

  // It counted for the greedy namespace alone, which then crowded it out.
  test("keeps the image of one namespace that a greedy one names too", () => {
    const shared = "r.io/zzz:1";
    const plans = [
      aPlan("aaa/greedy", [...many("x", maxOwedImages), shared], { priority: 1_000 }),
      aPlan("zzz/modest", [shared]),
    ];

    assert.equal(references(plans, {}).includes(shared), true);
  });

  test("shares what a report has room for among namespaces, by priority within each", () => {
    const plans = [
      ...["1", "2", "3"].map((part) => aPlan(`greedy/${part}`, many(`greedy${part}`, 500))),
      aPlan("greedy/dear", ["r.io/dear:1"], { priority: 1 }),
      aPlan("zz-modest/one", many("modest", 20)),
    ];
    const { images, problems } = owedBy(plans, {});

    assert.equal(images.size, maxOwedImages);
    assert.equal(
      many("modest", 20).every((reference) => images.has(reference)),
      true,
    );
    assert.equal(images.has("r.io/dear:1"), true);
    assert.match(problems.join(), /1521 images are asked for/);
  });
});
