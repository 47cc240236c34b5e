import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { Image } from "#api/v1/image.ts";
import { isRight } from "./statuses.ts";

function reported(reference: string, available: number) {
  return { reference, label: reference, available, pending: 3 - available, error: 0, unknown: 0 };
}

/** Wants two images on three nodes; so many of them hold the second one. */
function anImage({ available = 3, observedGeneration = 1, isReady = true } = {}): Image {
  return {
    metadata: { name: "app", namespace: "scale", generation: 1 },
    spec: {
      selector: [],
      repositories: [{ name: "app", tags: ["1", "2"], listSelection: "listed" }],
      imagePullSecrets: [],
      imagePullPolicy: "IfNotPresent",
      priority: 0,
      nodeLabels: "PerImage",
    },
    status: {
      observedGeneration,
      totalNodes: 3,
      totalImages: 2,
      condition: { available, pending: 3 - available, error: 0, unknown: 0 },
      images: [reported("app:1", 3), reported("app:2", available)],
      conditions: [
        {
          type: "Ready",
          status: isReady ? "True" : "False",
          reason: "Any",
          message: "",
          lastTransitionTime: "2026-01-01T00:00:00Z",
        },
      ],
    },
  };
}

describe("isRight()", () => {
  test("holds when every node has every image, and the status says Ready", () => {
    assert.equal(isRight(anImage(), 3), true);
  });

  test("does not hold while a node lacks an image, or of another number of nodes", () => {
    assert.equal(isRight(anImage({ available: 2 }), 3), false);
    assert.equal(isRight(anImage(), 4), false);
  });

  test("does not hold of a status for an older spec, or one that is not Ready", () => {
    assert.equal(isRight(anImage({ observedGeneration: 0 }), 3), false);
    assert.equal(isRight(anImage({ isReady: false }), 3), false);
  });
});
