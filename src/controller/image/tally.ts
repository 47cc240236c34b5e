import { isDeepStrictEqual } from "node:util";

import type { ReportedImage } from "#api/v1/node-report.ts";
import type { ImageCounts, ImageFacts, NodeFacts, StateCounts } from "./counts.ts";
import { ImageTally, type CountedNode } from "./image-tally.ts";
import { differences, inOrder } from "./reported-images.ts";

type NodeEntry = { -readonly [K in keyof CountedNode]: CountedNode[K] };

/**
 * Counts how Images are doing, incrementally: a report costs as much as it changed, whatever the size
 * of the cluster.
 *
 * A node counts by its worst image: an error, else one that is pending. A node that is not alive is
 * unknown, whatever it reported last. The four numbers always add up to `totalNodes`.
 */
export class Tally {
  readonly #onChange: (imageKey: string) => void;
  readonly #onLabels: (node: string) => void;
  readonly #images = new Map<string, ImageTally>();
  readonly #nodes = new Map<string, NodeEntry>();
  readonly #byReference = new Map<string, Set<ImageTally>>();
  readonly #freeSlots: number[] = [];
  #slots = 0;

  /**
   * @param onChange - hears the key of each Image whose counts may have changed.
   * @param onLabels - hears of each node that gets other labels because Images want something else.
   */
  constructor(onChange: (imageKey: string) => void, onLabels: (node: string) => void = () => {}) {
    this.#onChange = onChange;
    this.#onLabels = onLabels;
  }

  /** Begins to count an Image, or counts it anew if its facts are others than before. */
  setImage(key: string, facts: ImageFacts): void {
    const before = this.#images.get(key);
    if (isDeepStrictEqual(before?.facts, facts)) return;
    const changesLabels = !before || !labelsAlike(before.facts, facts);
    if (changesLabels) this.#tellLabels(key);
    this.#drop(key);
    const image = new ImageTally(key, facts, this.#slots);
    this.#images.set(key, image);
    for (const reference of facts.references) {
      const images = this.#byReference.get(reference) ?? new Set();
      this.#byReference.set(reference, images.add(image));
    }
    for (const node of this.#nodes.values()) image.enter(node);
    if (changesLabels) this.#tellLabels(key);
    this.#onChange(key);
  }

  removeImage(key: string): void {
    this.#tellLabels(key);
    this.#drop(key);
  }

  #tellLabels(key: string): void {
    for (const node of this.nodesOf(key)) this.#onLabels(node);
  }

  #drop(key: string): void {
    const image = this.#images.get(key);
    if (!image) return;
    this.#images.delete(key);
    for (const reference of image.facts.references) {
      const images = this.#byReference.get(reference);
      images?.delete(image);
      if (images?.size === 0) this.#byReference.delete(reference);
    }
  }

  setNode(name: string, facts: NodeFacts): void {
    const node = this.#nodeOf(name);
    // Most changes of a Node are its kubelet's sign of life.
    if (isDeepStrictEqual(node.facts, facts)) return;
    this.#change(node, () => (node.facts = facts));
  }

  removeNode(name: string): void {
    const node = this.#nodes.get(name);
    if (!node) return;
    this.#change(node, () => (node.facts = undefined));
    this.#forgetIfEmpty(node);
  }

  /** Says whether a node's agent is heard of. */
  setAlive(name: string, isAlive: boolean): void {
    if ((this.#nodes.get(name)?.isAlive ?? false) === isAlive) return;
    const node = this.#nodeOf(name);
    this.#change(node, () => (node.isAlive = isAlive));
    this.#forgetIfEmpty(node);
  }

  /** Takes over what a node reports. Only what differs from its last report is counted anew. */
  setReport(name: string, images: readonly ReportedImage[]): void {
    const node = this.#nodeOf(name);
    const previous = node.report;
    node.report = inOrder(images);
    for (const [before, after] of differences(previous, node.report)) {
      const reference = (before ?? after)?.reference ?? "";
      for (const image of this.#byReference.get(reference) ?? []) {
        if (!image.selects(node)) continue;
        image.replace(node, before, after);
        this.#onChange(image.key);
      }
    }
    this.#forgetIfEmpty(node);
  }

  /** @returns `undefined` if there is no such Image. */
  countsOf(key: string): ImageCounts | undefined {
    return this.#images.get(key)?.counts();
  }

  /** The nodes of an Image, by state, at no cost; `undefined` if there is no such Image. */
  nodeCountsOf(key: string): Readonly<StateCounts> | undefined {
    return this.#images.get(key)?.nodes;
  }

  /** Creation of the oldest selected node that lacks an image; `undefined` if none does. */
  oldestLateMs(key: string): number | undefined {
    const image = this.#images.get(key);
    if (!image) return undefined;
    let oldest: number | undefined;
    for (const node of this.#nodes.values()) {
      if (!node.facts || !image.selects(node) || !image.isLateOn(node)) continue;
      oldest = Math.min(oldest ?? Infinity, node.facts.createdMs);
    }
    return oldest;
  }

  /**
   * What a node reports of the images that some Image wants there, and labels nodes for. The
   * namespaces stand in turns, so that a bound cuts off what one of them has too much of.
   */
  labelledOn(name: string): ReportedImage[] {
    const node = this.#nodes.get(name);
    if (!node) return [];
    const turns = new Map<string, number>();
    const ranked = node.report.flatMap((image) => {
      const ranks = this.#labellersOf(image.reference, node).map((namespace) => {
        const rank = turns.get(namespace) ?? 0;
        turns.set(namespace, rank + 1);
        return rank;
      });
      return ranks.length === 0 ? [] : [{ image, rank: Math.min(...ranks) }];
    });
    return ranked.sort((a, b) => a.rank - b.rank).map(({ image }) => image);
  }

  /** Namespaces whose Images want a reference on a node, with a label. */
  #labellersOf(reference: string, node: CountedNode): string[] {
    const namespaces = new Set<string>();
    for (const image of this.#byReference.get(reference) ?? []) {
      if (image.facts.hasNodeLabels && image.selects(node)) namespaces.add(namespaceOf(image.key));
    }
    return [...namespaces];
  }

  /** Names of the nodes that an Image selects. */
  nodesOf(key: string): string[] {
    const image = this.#images.get(key);
    if (!image) return [];
    const nodes = [...this.#nodes.values()];
    return nodes.filter((node) => image.selects(node)).map(({ name }) => name);
  }

  #nodeOf(name: string): NodeEntry {
    const known = this.#nodes.get(name);
    if (known) return known;
    const slot = this.#freeSlots.pop() ?? this.#slots++;
    const node: NodeEntry = { name, slot, facts: undefined, isAlive: false, report: [] };
    this.#nodes.set(name, node);
    for (const image of this.#images.values()) image.grow(this.#slots);
    return node;
  }

  /** Takes a node out of all counts, changes it, and puts it in again. */
  #change(node: NodeEntry, change: () => void): void {
    const images = [...this.#images.values()];
    const before = images.map((image) => image.concerns(node));
    for (const image of images) image.leave(node);
    change();
    for (const [position, image] of images.entries()) {
      image.enter(node);
      if (before[position] || image.concerns(node)) this.#onChange(image.key);
    }
  }

  /** A node of which nothing is known gives its place to another. */
  #forgetIfEmpty(node: NodeEntry): void {
    if (node.facts || node.isAlive || node.report.length > 0) return;
    this.#nodes.delete(node.name);
    this.#freeSlots.push(node.slot);
  }
}

/** Whether two facts label nodes alike: what must be there of an image is no matter of labels. */
function labelsAlike(a: ImageFacts, b: ImageFacts): boolean {
  return (
    a.hasNodeLabels === b.hasNodeLabels &&
    isDeepStrictEqual(a.selector, b.selector) &&
    isDeepStrictEqual(a.references, b.references)
  );
}

function namespaceOf(key: string): string {
  return key.slice(0, key.indexOf("/"));
}
