import type { ReportedImage } from "#api/v1/node-report.ts";
import { matchesSelector } from "#api/v1/selector.ts";
import {
  totalOf,
  type ImageCounts,
  type ImageFacts,
  type NodeFacts,
  type StateCounts,
} from "./counts.ts";
import { NodeFindings, type ReportingNode } from "./node-findings.ts";

/** A node, as Images count it. */
export interface CountedNode extends ReportingNode {
  /** Its place in what is kept by node. */
  readonly slot: number;
  readonly facts: NodeFacts | undefined;
  readonly isAlive: boolean;
}

const selected = 1;
const excluded = 2;

/**
 * Counts the nodes of one Image, as `Tally` counts all. A node must be counted out before it changes,
 * and in again afterwards; for a report alone it is enough to count what it changed.
 *
 * With typed arrays by node: thousands of nodes times hundreds of Images must fit into memory.
 */
export class ImageTally {
  readonly key: string;
  readonly facts: ImageFacts;
  /** Place of each reference. */
  readonly #places: ReadonlyMap<string, number>;
  /** By node: 0, `selected` or `excluded`. */
  #membership: Uint8Array;
  /** By node: how many of the references are available there, and how many are errors. */
  #available: Uint16Array;
  #errors: Uint16Array;
  readonly #nodes: StateCounts = { available: 0, pending: 0, error: 0, unknown: 0 };
  #excludedNodes = 0;
  /** By reference: on how many living nodes. */
  readonly #availableOn: Uint32Array;
  readonly #errorsOn: Uint32Array;
  readonly #findings = new NodeFindings();

  /** @param slots - how many places for nodes there are. */
  constructor(key: string, facts: ImageFacts, slots: number) {
    const { references } = facts;
    this.key = key;
    this.facts = facts;
    this.#places = new Map(references.map((reference, place) => [reference, place]));
    this.#membership = new Uint8Array(slots);
    this.#available = new Uint16Array(slots);
    this.#errors = new Uint16Array(slots);
    this.#availableOn = new Uint32Array(references.length);
    this.#errorsOn = new Uint32Array(references.length);
  }

  /** Makes room for more nodes. */
  grow(slots: number): void {
    if (this.#membership.length >= slots) return;
    const size = Math.max(slots, this.#membership.length * 2);
    this.#membership = copyInto(new Uint8Array(size), this.#membership);
    this.#available = copyInto(new Uint16Array(size), this.#available);
    this.#errors = copyInto(new Uint16Array(size), this.#errors);
  }

  /** Whether a node that was counted in is one that the Image is for. */
  selects({ slot }: CountedNode): boolean {
    return this.#membership[slot] === selected;
  }

  /** Whether a node that was counted in changes any number, be it of the excluded nodes. */
  concerns({ slot }: CountedNode): boolean {
    return (this.#membership[slot] ?? 0) !== 0;
  }

  /** Whether a selected node lacks an image, or is not heard of. */
  isLateOn(node: CountedNode): boolean {
    return this.#stateOn(node) !== "available";
  }

  /** Counts a node in, if the Image selects it. */
  enter(node: CountedNode): void {
    const { facts, slot } = node;
    if (!facts || !matchesSelector(this.facts.selector, facts.labels)) return;
    if (!facts.isTarget) {
      this.#membership[slot] = excluded;
      this.#excludedNodes++;
      return;
    }
    this.#membership[slot] = selected;
    for (const reported of node.report) this.#count(node, reported, 1);
    this.#nodes[this.#stateOn(node)]++;
  }

  /** Counts a node out. */
  leave(node: CountedNode): void {
    const membership = this.#membership[node.slot];
    this.#membership[node.slot] = 0;
    if (membership === excluded) this.#excludedNodes--;
    if (membership !== selected) return;
    this.#nodes[this.#stateOn(node)]--;
    for (const reported of node.report) this.#count(node, reported, -1);
  }

  /** Counts what a selected node reports of one image instead of what it reported before. */
  replace(
    node: CountedNode,
    before: ReportedImage | undefined,
    after: ReportedImage | undefined,
  ): void {
    this.#nodes[this.#stateOn(node)]--;
    if (before) this.#count(node, before, -1);
    if (after) this.#count(node, after, 1);
    this.#nodes[this.#stateOn(node)]++;
  }

  /** The nodes by state, at no cost. */
  get nodes(): Readonly<StateCounts> {
    return this.#nodes;
  }

  /** All the numbers, as they are now. */
  counts(): ImageCounts {
    const nodes = { ...this.#nodes };
    const { unknown } = nodes;
    const totalNodes = totalOf(nodes);
    const references = this.facts.references.map((reference, place) => {
      const available = this.#availableOn[place] ?? 0;
      const error = this.#errorsOn[place] ?? 0;
      const pending = totalNodes - unknown - available - error;
      const findings = this.#findings.of(place, reference);
      return { reference, available, pending, error, unknown, ...findings };
    });
    return { nodes, totalNodes, excludedNodes: this.#excludedNodes, references };
  }

  /** Adds one reported image of a node to the counts, or with -1 takes it away. */
  #count(node: CountedNode, reported: ReportedImage, by: 1 | -1): void {
    const place = this.#places.get(reported.reference);
    if (place === undefined) return;
    const state = this.#isOutdated(reported) ? "pending" : reported.state;
    const [perNode, perReference] =
      state === "available" ? [this.#available, this.#availableOn] : [this.#errors, this.#errorsOn];
    if (state !== "pending") {
      perNode[node.slot] = (perNode[node.slot] ?? 0) + by;
      if (node.isAlive) perReference[place] = (perReference[place] ?? 0) + by;
    }
    if (node.isAlive) this.#findings.add(place, node, reported, by);
  }

  /** Its agent may not have heard of the new digest yet. */
  #isOutdated({ reference, state, digest }: ReportedImage): boolean {
    const expected = this.facts.digests?.get(reference);
    return (
      state === "available" && digest !== undefined && expected !== undefined && digest !== expected
    );
  }

  #stateOn({ isAlive, slot }: CountedNode): keyof StateCounts {
    if (!isAlive) return "unknown";
    if ((this.#errors[slot] ?? 0) > 0) return "error";
    return this.#available[slot] === this.#places.size ? "available" : "pending";
  }
}

function copyInto<T extends Uint8Array | Uint16Array>(target: T, source: T): T {
  target.set(source);
  return target;
}
