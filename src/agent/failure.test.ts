import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { PullError, type PullErrorCode } from "#cri/pull-error.ts";
import { RpcError, RuntimeUnavailableError } from "#cri/rpc-error.ts";
import { concernsImage, failureOf, ImageNotListedError } from "./failure.ts";

function pullError(code: PullErrorCode): PullError {
  return new PullError("r.io/x:1", code, "what the runtime said", undefined);
}

describe("failureOf()", () => {
  test("keeps the runtime's words and names the kind", () => {
    assert.deepEqual(failureOf(pullError("IMAGE_NOT_FOUND")), {
      reason: "NotFound",
      message: "what the runtime said",
    });
  });

  test("tells an image that the runtime does not list from other failures", () => {
    assert.equal(failureOf(new ImageNotListedError("r.io/x:1")).reason, "NotListed");
  });

  test("keeps words of errors that are not the runtime's to itself", () => {
    assert.equal(failureOf(new RpcError("INTERNAL", "broken")).message, "broken");
    assert.equal(failureOf(new Error("secret")).message, "unknown");
  });
});

describe("concernsImage()", () => {
  test("holds nothing against an image while the runtime is away", () => {
    assert.equal(concernsImage(failureOf(pullError("RUNTIME_UNAVAILABLE"))), false);
    assert.equal(concernsImage(failureOf(new RuntimeUnavailableError("gone"))), false);
    assert.equal(concernsImage(failureOf(pullError("THROTTLED"))), true);
  });
});
