import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { Requirement } from "#api/v1/selector.ts";
import { aPlan } from "#test/agent-world.ts";
import { maxOwedImages, owedBy } from "./owed.ts";

const a = `sha256:${"a".repeat(64)}`;
const b = `sha256:${"b".repeat(64)}`;
const gpuOnly: Requirement[] = [{ key: "gpu", operator: "Exists" }];
const broken: Requirement[] = [{ key: "gpu", operator: "In" }];

function references(...args: Parameters<typeof owedBy>): string[] {
  return [...owedBy(...args).images.keys()];
}

function versionOf(plan: ImagePlan): string | undefined {
  return owedBy([plan], {}).images.get("r.io/x:1")?.version;
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

  test("changes the version with a generation and a secret, and not with a digest", () => {
    const plan = aPlan("a/one", ["r.io/x:1"]);
    const before = versionOf(plan);

    assert.notEqual(versionOf(aPlan("a/one", ["r.io/x:1"], { pullSecretsRevision: "2" })), before);
    const resolved = [{ reference: "r.io/x:1", digest: a }];
    assert.equal(versionOf({ ...plan, spec: { ...plan.spec, images: resolved } }), before);
    const metadata = { ...plan.metadata, generation: 9 };
    assert.equal(versionOf({ ...plan, metadata }), before);
  });

  test("expects the digest of the plan that follows the tag, then of the highest priority", () => {
    const reference = "r.io/x:1";
    const digestOf = (plans: ImagePlan[]): string | undefined =>
      owedBy(plans, {}).images.get(reference)?.digest;
    const unresolved = aPlan("a/none", [reference], { priority: 9, imagePullPolicy: "Always" });
    const low = aPlan("a/low", [], { images: [{ reference, digest: a }], priority: 1 });
    const high = aPlan("b/high", [], { images: [{ reference, digest: b }], priority: 2 });
    assert.equal(digestOf([low, high]), b);
    // Another plan's may be of an earlier time: nodes would pull for ever, and never get it.
    assert.equal(digestOf([unresolved, low]), undefined);

    const follows = aPlan("c/follows", [], { ...low.spec, imagePullPolicy: "Always" });
    assert.equal(digestOf([high, follows]), a);
    assert.equal(owedBy([high, follows], {}).images.get(reference)?.followsTag, true);
    assert.equal(owedBy([high], {}).images.get(reference)?.followsTag, false);
  });

  test("expects no other digest of a reference that has one", () => {
    const reference = `r.io/x:1@${a}`;
    const images = [{ reference, digest: b }];
    const image = owedBy([aPlan("a/one", [], { images, imagePullPolicy: "Always" })], {}).images;

    assert.deepEqual(
      [image.get(reference)?.digest, image.get(reference)?.followsTag],
      [undefined, false],
    );
  });

  test("names the registry, the sizes, and the plans with logins and with bounds", () => {
    const sizes = [{ platform: "linux/amd64", sizeBytes: 7 }];
    const plans = [
      aPlan("a/one", ["r.io:5000/x:1"], { maxConcurrentNodes: "10%" }),
      aPlan("b/two", [], { images: [{ reference: "r.io:5000/x:1", sizes }] }),
      aPlan("c/three", ["r.io:5000/x:1"], { pullSecretsRevision: "1" }),
    ];
    const image = owedBy(plans, {}).images.get("r.io:5000/x:1");

    assert.deepEqual([image?.host, image?.sizes], ["r.io:5000", sizes]);
    assert.deepEqual(image?.loginPlans, ["c/three"]);
  });

  test("is bounded by those who set a bound, if everybody did", () => {
    const one = aPlan("a/one", ["r.io/x:1"], { maxConcurrentNodes: 1 });
    const two = aPlan("b/two", ["r.io/x:1"], { maxConcurrentNodes: "10%" });
    const free = aPlan("c/free", ["r.io/x:1"]);
    const [bounded, mixed] = [
      [one, two],
      [one, free],
    ].map((plans) => owedBy(plans, {}).images.get("r.io/x:1")?.slotPlans);

    assert.deepEqual(bounded, ["a/one", "b/two"]);
    assert.deepEqual(mixed, []);
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
