import assert from "node:assert/strict";
import { test } from "node:test";

import { imageLabel, isImageLabel, labelPrefix } from "./labels.ts";

test("isImageLabel() knows exactly the labels that imageLabel() makes", () => {
  const label = imageLabel("debian");

  assert.equal(isImageLabel(label), true);
  assert.equal(imageLabel("docker.io/library/debian:latest"), label);
  for (const foreign of [
    `${labelPrefix}team`,
    `image.stvz.io-team/${"a".repeat(32)}`,
    `imageXstvz.io/${"a".repeat(32)}`,
    `${labelPrefix}${"a".repeat(33)}`,
    `${labelPrefix}${"A".repeat(32)}`,
    `x${label}`,
    `${label}\n`,
    "image.stvz.io",
  ]) {
    assert.equal(isImageLabel(foreign), false, foreign);
  }
});
