import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import type { ReportedImage } from "#api/v1/node-report.ts";
import { matchesSelector, type Requirement } from "#api/v1/selector.ts";
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

  test("equals a recount from scratch after any sequence of events", () => {
    fc.assert(
      fc.property(fc.array(anEvent, { maxLength: 60 }), (events) => {
        const world = new World();
        const tally = new Tally(() => {});
        for (const event of events) {
          world.apply(event);
          play(tally, event);
        }
        for (const key of world.images.keys()) {
          assert.deepEqual(tally.countsOf(key), world.recount(key));
        }
      }),
      { numRuns: 500 },
    );
  });

  test("tells of each node whose labels an Image's coming, going or change may change", () => {
    fc.assert(
      fc.property(fc.array(anEvent, { maxLength: 60 }), (events) => {
        const told = new Set<string>();
        const tally = new Tally(
          () => {},
          (node) => told.add(node),
        );
        for (const event of events) {
          const before = labels(tally);
          told.clear();
          play(tally, event);
          if (event.type !== "image" && event.type !== "noImage") continue;
          const after = labels(tally);
          const changed = nodeNames.filter((node) => before.get(node) !== after.get(node));
          for (const node of changed) assert.ok(told.has(node), node);
        }
      }),
      { numRuns: 300 },
    );
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

type Event =
  | { type: "image"; key: string; facts: ImageFacts }
  | { type: "noImage"; key: string }
  | { type: "node"; name: string; facts: NodeFacts }
  | { type: "noNode"; name: string }
  | { type: "alive"; name: string; isAlive: boolean }
  | { type: "report"; name: string; images: ReportedImage[] };

const nodeNames = ["n1", "n2", "n3", "n4"];
const name = fc.constantFrom(...nodeNames);
const key = fc.constantFrom("ns/a", "ns/b", "other/c");
const reference = fc.constantFrom("r1", "r2", "r3", "r4", "r5");
const aReport = fc.uniqueArray(
  fc.record({
    reference,
    state: fc.constantFrom("pending" as const, "available" as const, "error" as const),
    attempts: fc.nat(3),
    since: fc.constantFrom("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
  }),
  { selector: (image) => image.reference },
);
const anEvent: fc.Arbitrary<Event> = fc.oneof(
  fc.record({
    type: fc.constant("image" as const),
    key,
    facts: fc.record({
      references: fc.uniqueArray(reference),
      selector: fc.constantFrom<Requirement[]>([], fast),
      hasNodeLabels: fc.boolean(),
    }),
  }),
  fc.record({ type: fc.constant("noImage" as const), key }),
  fc.record({
    type: fc.constant("node" as const),
    name,
    facts: fc.record({
      labels: fc.constantFrom<Record<string, string>>({}, { disk: "fast" }),
      isTarget: fc.boolean(),
      createdMs: fc.nat(10),
    }),
  }),
  fc.record({ type: fc.constant("noNode" as const), name }),
  fc.record({ type: fc.constant("alive" as const), name, isAlive: fc.boolean() }),
  fc.record({ type: fc.constant("report" as const), name, images: aReport }),
);

function labels(tally: Tally): Map<string, string> {
  const labelled = (node: string): string[] =>
    tally.labelledOn(node).map(({ reference, state }) => `${reference} ${state}`);
  return new Map(nodeNames.map((node) => [node, labelled(node).toSorted().join()]));
}

function play(tally: Tally, event: Event): void {
  switch (event.type) {
    case "image":
      return tally.setImage(event.key, event.facts);
    case "noImage":
      return tally.removeImage(event.key);
    case "node":
      return tally.setNode(event.name, event.facts);
    case "noNode":
      return tally.removeNode(event.name);
    case "alive":
      return tally.setAlive(event.name, event.isAlive);
    case "report":
      return tally.setReport(event.name, event.images);
  }
}

/** The plain truth: what is known, counted from the start each time. */
class World {
  readonly images = new Map<string, ImageFacts>();
  readonly nodes = new Map<string, NodeFacts>();
  readonly alive = new Set<string>();
  readonly reports = new Map<string, ReportedImage[]>();

  apply(event: Event): void {
    if (event.type === "image") this.images.set(event.key, event.facts);
    if (event.type === "noImage") this.images.delete(event.key);
    if (event.type === "node") this.nodes.set(event.name, event.facts);
    if (event.type === "noNode") this.nodes.delete(event.name);
    if (event.type === "alive" && event.isAlive) this.alive.add(event.name);
    if (event.type === "alive" && !event.isAlive) this.alive.delete(event.name);
    if (event.type === "report") this.reports.set(event.name, event.images);
  }

  recount(imageKey: string): unknown {
    const facts = this.images.get(imageKey);
    assert.ok(facts);
    const matching = [...this.nodes].filter(([, node]) =>
      matchesSelector(facts.selector, node.labels),
    );
    const targets = matching.filter(([, node]) => node.isTarget).map(([node]) => node);
    const stateOf = (node: string, wanted: string): string =>
      this.alive.has(node) ? (this.#reported(node, wanted)?.state ?? "pending") : "unknown";
    const nodes = { available: 0, pending: 0, error: 0, unknown: 0 };
    for (const node of targets) {
      const states = facts.references.map((wanted) => stateOf(node, wanted));
      if (!this.alive.has(node)) nodes.unknown++;
      else if (states.includes("error")) nodes.error++;
      else if (states.includes("pending")) nodes.pending++;
      else nodes.available++;
    }
    const references = facts.references.map((wanted) => {
      const states = targets.map((node) => stateOf(node, wanted));
      const number = (state: string): number => states.filter((each) => each === state).length;
      const failures = targets
        .filter((node) => this.alive.has(node))
        .flatMap((node) => {
          const image = this.#reported(node, wanted);
          const isFailure = image && image.state !== "available" && (image.attempts ?? 0) > 0;
          return isFailure ? [{ node, image }] : [];
        })
        .toSorted((a, b) =>
          a.image.since === b.image.since
            ? a.node.localeCompare(b.node)
            : b.image.since.localeCompare(a.image.since),
        );
      const [lastFailure] = failures;
      return {
        reference: wanted,
        available: number("available"),
        pending: number("pending"),
        error: number("error"),
        unknown: number("unknown"),
        ...(lastFailure && { lastFailure }),
      };
    });
    const excludedNodes = matching.length - targets.length;
    return { nodes, totalNodes: targets.length, excludedNodes, references };
  }

  #reported(node: string, wanted: string): ReportedImage | undefined {
    return this.reports.get(node)?.find((image) => image.reference === wanted);
  }
}
