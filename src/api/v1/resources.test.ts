import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { collectionPath, MalformedObjectError } from "#kube/resource.ts";
import { anImage, aNodeReport } from "#test/kinds.ts";
import { imagePlans, images, nodeReports } from "./resources.ts";

describe("parse()", () => {
  test("returns what it is given, unknown fields included", () => {
    const image = { ...anImage(), novelty: 1 };
    const report = aNodeReport("n1", { a: "error" });

    assert.equal(images.parse(image), image);
    assert.equal(nodeReports.parse(report), report);
  });

  test("takes an object that has no status yet", () => {
    const report = { metadata: { name: "n1" } };

    assert.equal(nodeReports.parse(report), report);
  });

  const { metadata, spec } = anImage();
  const malformed: Record<string, unknown> = {
    "metadata.name": { metadata: {}, spec },
    spec: { metadata },
    "spec.priority": { metadata, spec: { ...spec, priority: 1.5 } },
    "spec.repositories": { metadata, spec: { ...spec, repositories: {} } },
    "spec.repositories[0].name": { metadata, spec: { ...spec, repositories: [{}] } },
    "spec.repositories[1]": {
      metadata,
      spec: { ...spec, repositories: [...spec.repositories, null] },
    },
    "spec.repositories[0].tags[0]": {
      metadata,
      spec: { ...spec, repositories: [{ name: "a", listSelection: "listed", tags: [1] }] },
    },
    "spec.imagePullPolicy": { metadata, spec: { ...spec, imagePullPolicy: "Never" } },
    "spec.maxConcurrentNodes": { metadata, spec: { ...spec, maxConcurrentNodes: true } },
    status: { metadata, spec, status: [] },
  };
  for (const [field, value] of Object.entries(malformed)) {
    test(`names ${field} when that is malformed`, () => {
      assert.throws(
        () => images.parse(value),
        (error) => error instanceof MalformedObjectError && error.field === field,
      );
    });
  }
});

test("the resources live where the CRDs put them", () => {
  assert.equal(collectionPath(images, "team"), "/apis/stvz.io/v1/namespaces/team/images");
  assert.equal(collectionPath(imagePlans, "team"), "/apis/stvz.io/v1/namespaces/team/imageplans");
  assert.equal(collectionPath(nodeReports), "/apis/stvz.io/v1/nodereports");
});
