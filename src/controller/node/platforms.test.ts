import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { Change } from "#kube/object-cache.ts";
import type { Node } from "#kube/types.ts";
import { NodePlatforms } from "./platforms.ts";

function aNode(arch?: string, os = "linux"): Node {
  const labels = { "kubernetes.io/os": os, "kubernetes.io/arch": arch ?? "" };
  return { metadata: { name: "n", ...(arch !== undefined && { labels }) } };
}

function aFeed(): {
  nodes: ConstructorParameters<typeof NodePlatforms>[0];
  tell: (change: Change<Node>) => void;
} {
  const listeners = new Set<(change: Change<Node>) => void>();
  return {
    nodes: {
      onChange: (listener) => {
        listeners.add(listener);
        return { [Symbol.dispose]: () => void listeners.delete(listener) };
      },
    },
    tell: (change) => {
      for (const listener of listeners) listener(change);
    },
  };
}

describe("NodePlatforms", () => {
  test("has each platform while a node has it, and tells of each that joins", () => {
    const { nodes, tell } = aFeed();
    let joined = 0;
    using platforms = new NodePlatforms(nodes, () => joined++);
    const steps: [Change<Node>, string[], number][] = [
      [{ type: "added", key: "a", object: aNode("amd64") }, ["linux/amd64"], 1],
      [{ type: "added", key: "b", object: aNode("amd64") }, ["linux/amd64"], 1],
      [{ type: "added", key: "old", object: aNode() }, ["linux/amd64"], 1],
      [
        { type: "updated", key: "b", object: aNode("arm64"), previous: aNode("amd64") },
        ["linux/amd64", "linux/arm64"],
        2,
      ],
      [
        { type: "deleted", key: "b", object: aNode("arm64"), previous: aNode("arm64") },
        ["linux/amd64"],
        2,
      ],
      [
        { type: "added", key: "w", object: aNode("amd64", "windows") },
        ["linux/amd64", "windows/amd64"],
        3,
      ],
    ];
    for (const [change, expected, times] of steps) {
      tell(change);
      assert.deepEqual([...platforms.current], expected);
      assert.equal(joined, times);
    }
  });

  test("gives what does not change any more", () => {
    const { nodes, tell } = aFeed();
    using platforms = new NodePlatforms(nodes, () => {});
    const before = platforms.current;
    tell({ type: "added", key: "a", object: aNode("amd64") });
    assert.deepEqual([before.size, platforms.current.size], [0, 1]);
  });
});
