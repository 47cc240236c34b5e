import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Layout } from "./layout.ts";

describe("Layout", () => {
  test("refuses a name that cannot be part of other names, and says what can", () => {
    for (const name of ["", "Upper", "1st", "with-dash", "../up", "a".repeat(17)]) {
      assert.throws(
        () => new Layout(name),
        /must be a letter and then at most 15 letters or digits/,
      );
    }
  });

  test("gives every node a name, an address and namespaces of its own", () => {
    const layout = new Layout("demo");
    const [first, last] = [layout.node(1), layout.node(99)];

    assert.deepEqual(
      [first.name, first.address, first.podCidr, first.namespace],
      ["node1", "10.240.0.2", "10.244.1.0/24", "coral-demo-n1"],
    );
    assert.equal(last.address, "10.240.0.100");
    assert.throws(() => layout.node(100), /must be from 1 to 99/);
  });
});
