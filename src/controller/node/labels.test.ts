import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { imageLabel } from "#api/v1/labels.ts";
import { labelChange } from "./labels.ts";

const debian = "docker.io/library/debian:bookworm";
const nginx = "docker.io/library/nginx:1.29";

describe("labelChange()", () => {
  test("adds, changes and removes labels in one go", () => {
    const labels = {
      [imageLabel(debian)]: "pending",
      [imageLabel("docker.io/a/b:1")]: "available",
    };
    const change = labelChange(labels, [
      { reference: debian, state: "available" },
      { reference: nginx, state: "error" },
    ]);

    assert.deepEqual(change, {
      [imageLabel(debian)]: "available",
      [imageLabel(nginx)]: "error",
      [imageLabel("docker.io/a/b:1")]: null,
    });
  });

  test("changes nothing when all is right", () => {
    const labels = { [imageLabel(debian)]: "available", "kubernetes.io/os": "linux" };
    assert.equal(labelChange(labels, [{ reference: debian, state: "available" }]), undefined);
  });

  test("never touches a label of somebody else that begins alike", () => {
    const labels = {
      "image.stvz.io/team": "blue",
      "image.stvz.io-team/x": "1",
      "image.stvz.io": "2",
      [`image.stvz.io/${"0".repeat(31)}`]: "3",
      [`image.stvz.io/${"A".repeat(32)}`]: "4",
    };
    assert.equal(labelChange(labels, []), undefined);
  });

  test("gives a node at most 500 labels", () => {
    const images = Array.from({ length: 600 }, (_, index) => ({
      reference: `docker.io/library/debian:${index}`,
      state: "available" as const,
    }));
    assert.equal(Object.keys(labelChange({}, images) ?? {}).length, 500);
  });
});
