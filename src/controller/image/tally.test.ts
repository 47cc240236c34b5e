import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { ReportedImage } from "#api/v1/node-report.ts";
import type { Requirement } from "#api/v1/selector.ts";
import type { ImageFacts, NodeFacts } from "./counts.ts";
import { Tally } from "./tally.ts";

const fast: Requirement[] = [{ key: "disk", operator: "In", values: ["fast"] }];

function aNode(facts: Partial<NodeFacts> = {}): NodeFacts {
  return { labels: {}, isTarget: true, createdMs: 0, ...facts };
}

function images(references: string[], selector: Requirement[] = []): ImageFacts {
  return { references, selector, hasNodeLabels: true };
}

function reported(
  reference: string,
  state: ReportedImage["state"],
  more: Partial<ReportedImage> = {},
): ReportedImage {
  return { reference, state, since: "2026-01-01T00:00:00Z", ...more };
}

/** A tally of two living nodes and one Image with two references. */
function aTally(): { tally: Tally; changed: string[] } {
  const changed: string[] = [];
  const tally = new Tally((key) => changed.push(key));
  for (const name of ["n1", "n2"]) {
    tally.setNode(name, aNode());
    tally.setAlive(name, true);
  }
  tally.setImage("ns/web", images(["a", "b"]));
  changed.length = 0;
  return { tally, changed };
}

describe("Tally", () => {
  test("counts a node by its worst image", () => {
    const { tally } = aTally();
    tally.setReport("n1", [reported("a", "available"), reported("b", "error", { attempts: 3 })]);
    tally.setReport("n2", [reported("a", "available"), reported("b", "pending")]);

    const counts = tally.countsOf("ns/web");
    assert.deepEqual(counts?.nodes, { available: 0, pending: 1, error: 1, unknown: 0 });
    assert.deepEqual(
      counts?.references.map(({ reference, available, pending, error }) => [
        reference,
        available,
        pending,
        error,
      ]),
      [
        ["a", 2, 0, 0],
        ["b", 0, 1, 1],
      ],
    );
  });

  test("counts a node that has not reported as pending, and one without a living agent as unknown", () => {
    const { tally } = aTally();
    tally.setReport("n2", [reported("a", "available"), reported("b", "available")]);
    tally.setAlive("n2", false);

    assert.deepEqual(tally.countsOf("ns/web")?.nodes, {
      available: 0,
      pending: 1,
      error: 0,
      unknown: 1,
    });
    tally.setAlive("n2", true);
    assert.equal(tally.countsOf("ns/web")?.nodes.available, 1, "its report still stands");
  });

  test("leaves nodes out on which no agent runs, and says how many", () => {
    const { tally } = aTally();
    tally.setNode("windows", aNode({ isTarget: false }));

    const counts = tally.countsOf("ns/web");
    assert.deepEqual([counts?.totalNodes, counts?.excludedNodes], [2, 1]);
  });

  test("follows a node's labels into and out of a selector", () => {
    const { tally } = aTally();
    tally.setImage("ns/fast", images(["a"], fast));
    assert.equal(tally.countsOf("ns/fast")?.totalNodes, 0);

    tally.setNode("n1", aNode({ labels: { disk: "fast" } }));
    assert.deepEqual(tally.nodesOf("ns/fast"), ["n1"]);

    tally.setNode("n1", aNode());
    assert.equal(tally.countsOf("ns/fast")?.totalNodes, 0);
  });

  test("tells only the Images that a report concerns", () => {
    const { tally, changed } = aTally();
    tally.setImage("ns/other", images(["c"]));
    changed.length = 0;
    tally.setReport("n1", [reported("a", "available")]);
    tally.setReport("n1", [reported("a", "available")]);

    assert.deepEqual(changed, ["ns/web"]);
  });

  test("names the failure that was met last, and none once it is over", () => {
    const { tally } = aTally();
    const early = { attempts: 1, reason: "Denied", since: "2026-01-01T00:00:00Z" };
    const late = { attempts: 1, reason: "NotFound", since: "2026-01-02T00:00:00Z" };
    tally.setReport("n1", [reported("a", "pending", early)]);
    tally.setReport("n2", [reported("a", "error", late)]);
    const failureOf = (): unknown => {
      const failure = tally.countsOf("ns/web")?.references[0]?.lastFailure;
      return failure && [failure.node, failure.image.reason];
    };

    assert.deepEqual(failureOf(), ["n2", "NotFound"]);
    tally.setReport("n2", [reported("a", "available")]);
    assert.deepEqual(failureOf(), ["n1", "Denied"]);
    tally.setReport("n1", []);
    assert.equal(failureOf(), undefined);
  });

  test("knows the oldest node that lacks an image", () => {
    const { tally } = aTally();
    const all = [reported("a", "available"), reported("b", "available")];
    tally.setNode("n1", aNode({ createdMs: 1_000 }));
    tally.setNode("n2", aNode({ createdMs: 2_000 }));
    assert.equal(tally.oldestLateMs("ns/web"), 1_000);
    tally.setReport("n1", all);
    assert.equal(tally.oldestLateMs("ns/web"), 2_000);
    tally.setReport("n2", all);
    assert.equal(tally.oldestLateMs("ns/web"), undefined);
  });

  test("labels only what some Image wants there, and only if it wants labels", () => {
    const { tally } = aTally();
    tally.setImage("ns/quiet", { ...images(["q"]), hasNodeLabels: false });
    tally.setReport(
      "n1",
      ["a", "q", "x"].map((name) => reported(name, "available")),
    );

    assert.deepEqual(
      tally.labelledOn("n1").map(({ reference }) => reference),
      ["a"],
    );
  });

  // The Node's labels are bounded, and 500 names of one namespace took those of all others.
  test("lists what to label with the namespaces in turns", () => {
    const { tally } = aTally();
    const many = ["0", "1", "2", "3"];
    tally.setImage("greedy/x", images(many));
    tally.setReport(
      "n1",
      [...many, "a"].map((reference) => reported(reference, "available")),
    );
    const order = tally.labelledOn("n1").map(({ reference }) => reference);

    assert.deepEqual(order.slice(0, 2).toSorted(), ["0", "a"]);
  });

  test("counts what a followed tag named before as pending, though the node calls it available", () => {
    const { tally } = aTally();
    const digests = new Map([["a", "sha256:new"]]);
    tally.setImage("ns/moving", { ...images(["a"]), digests });
    tally.setReport("n1", [reported("a", "available", { digest: "sha256:old" })]);
    tally.setReport("n2", [reported("a", "available", { digest: "sha256:new" })]);
    const { nodes, references } = tally.countsOf("ns/moving") ?? {};

    assert.deepEqual(nodes, { available: 1, pending: 1, error: 0, unknown: 0 });
    assert.deepEqual([references?.[0]?.available, references?.[0]?.pending], [1, 1]);
  });

  test("collects what living nodes remark of images, with their digests", () => {
    const { tally } = aTally();
    const moved = { reason: "TagMoved", digest: "sha256:b" };
    for (const node of ["n1", "n2"]) {
      tally.setReport(node, [reported("a", "available", moved), reported("b", "available")]);
    }
    tally.setAlive("n2", false);
    const remarked = tally.countsOf("ns/web")?.references[0]?.remarked;
    assert.deepEqual(remarked?.get("TagMoved"), [{ node: "n1", digest: "sha256:b" }]);
    assert.equal(tally.countsOf("ns/web")?.nodes.available, 1);

    tally.setReport("n1", [reported("a", "available"), reported("b", "available")]);
    assert.equal(tally.countsOf("ns/web")?.references[0]?.remarked, undefined);
  });
});
