import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { aNode } from "#test/agent-world.ts";
import { mayPull } from "./may-pull.ts";

describe("mayPull()", () => {
  test("allows pulls on a Ready node without pressure", () => {
    assert.deepEqual(mayPull(aNode()), { isAllowed: true });
  });

  test("allows none on a node that is not Ready, or of which nobody knows", () => {
    const reason = "NodeNotReady";
    const unknown = aNode({ conditions: { Ready: "Unknown" } });

    assert.deepEqual(mayPull(aNode({ conditions: { Ready: "False" } })), {
      isAllowed: false,
      reason,
    });
    assert.deepEqual(mayPull(unknown), { isAllowed: false, reason });
    assert.deepEqual(mayPull({ metadata: { name: "new" } }), { isAllowed: false, reason });
  });

  for (const reason of ["DiskPressure", "PIDPressure"] as const) {
    test(`allows none under ${reason}`, () => {
      const node = aNode({ conditions: { [reason]: "True" } });

      assert.deepEqual(mayPull(node), { isAllowed: false, reason });
    });
  }
});
