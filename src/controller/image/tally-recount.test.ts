import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import type { ReportedImage } from "#api/v1/node-report.ts";
import { matchesSelector, type Requirement } from "#api/v1/selector.ts";
import type { ImageFacts, NodeFacts } from "./counts.ts";
import { Tally } from "./tally.ts";

const fast: Requirement[] = [{ key: "disk", operator: "In", values: ["fast"] }];

describe("Tally, after any sequence of events", () => {
  test("equals a recount from scratch", () => {
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
