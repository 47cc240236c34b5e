import { isImageLabel } from "#api/v1/labels.ts";
import type { Node } from "#kube/types.ts";
import type { NodeFact } from "#admission/pods/model.ts";
import { Bits, countInAll, someInAll } from "./bits.ts";
import type { Labels } from "./label-selector.ts";

/** Where an image is. */
interface Places {
  /** Nodes that have it. */
  readonly available: Bits;
  /** Nodes that have it or are to have it. */
  readonly planned: Bits;
  /** How many nodes are in `planned`. */
  plannedCount: number;
}

/**
 * Knows which nodes take pods and which images are on them. Each node has a number, and each label a bit
 * for each number, so that thousands of nodes are asked about hundreds of images in microseconds and
 * kilobytes.
 */
export class NodeIndex {
  readonly #numbers = new Map<string, number>();
  /** By number. */
  readonly #facts: (NodeFact | undefined)[] = [];
  readonly #free: number[] = [];
  /** Numbers of nodes that take pods. */
  readonly #ready = new Bits();
  readonly #places = new Map<string, Places>();

  /** Takes note of a node, or of what it is now. */
  set(node: Node): void {
    const { name } = node.metadata;
    const number = this.#numbers.get(name) ?? this.#free.pop() ?? this.#facts.length;
    const fact = nodeFactOf(node);
    this.#relabel(number, fact.labels);
    this.#numbers.set(name, number);
    this.#facts[number] = fact;
    if (takesPods(node)) this.#ready.add(number);
    else this.#ready.delete(number);
  }

  delete(name: string): void {
    const number = this.#numbers.get(name);
    if (number === undefined) return;
    this.#relabel(number, {});
    this.#numbers.delete(name);
    this.#ready.delete(number);
    this.#facts[number] = undefined;
    this.#free.push(number);
  }

  /** How many nodes that take pods hold the image with this label. */
  availableCount(label: string): number {
    const places = this.#places.get(label);
    return places ? countInAll([places.available, this.#ready]) : 0;
  }

  /** How many nodes are to hold the image with this label, or do. */
  plannedCount(label: string): number {
    return this.#places.get(label)?.plannedCount ?? 0;
  }

  /** Counts the nodes that take pods, hold all images with these labels, and fit; no more than `limit`. */
  countFitting(
    labels: readonly string[],
    fits: (node: NodeFact) => boolean,
    limit: number,
  ): number {
    if (limit <= 0) return 0;
    let count = 0;
    this.#someHolding(labels, (fact) => {
      if (fits(fact)) count++;
      return count >= limit;
    });
    return count;
  }

  /** Names the nodes that take pods and hold the image with this label, in order. */
  namesHolding(label: string): string[] {
    const names: string[] = [];
    this.#someHolding([label], ({ name }) => {
      names.push(name);
      return false;
    });
    return names.toSorted();
  }

  /** Shows nodes that take pods and hold all images with these labels, until one is accepted. */
  #someHolding(labels: readonly string[], accepts: (node: NodeFact) => boolean): void {
    const sets = [this.#ready];
    for (const label of labels) {
      const places = this.#places.get(label);
      if (!places) return;
      sets.push(places.available);
    }
    someInAll(sets, (number) => {
      const fact = this.#facts[number];
      return fact !== undefined && accepts(fact);
    });
  }

  /** Of hundreds of labels, mostly one has changed: what stays costs a comparison. */
  #relabel(number: number, labels: Labels): void {
    const before = this.#facts[number]?.labels ?? {};
    for (const [label, state] of Object.entries(labels)) {
      if (before[label] !== state && isImageLabel(label)) this.#place(number, label, state);
    }
    for (const label of Object.keys(before)) {
      if (!Object.hasOwn(labels, label) && isImageLabel(label)) this.#displace(number, label);
    }
  }

  #place(number: number, label: string, state: string): void {
    const places = this.#places.get(label) ?? noPlaces();
    this.#places.set(label, places);
    if (!places.planned.has(number)) places.plannedCount++;
    places.planned.add(number);
    if (state === "available") places.available.add(number);
    else places.available.delete(number);
  }

  #displace(number: number, label: string): void {
    const places = this.#places.get(label);
    if (!places) return;
    places.available.delete(number);
    places.planned.delete(number);
    places.plannedCount--;
    if (places.plannedCount === 0) this.#places.delete(label);
  }
}

function noPlaces(): Places {
  return { available: new Bits(), planned: new Bits(), plannedCount: 0 };
}

function nodeFactOf({ metadata: { name, labels = {} }, spec }: Node): NodeFact {
  return { name, labels, taints: spec?.taints ?? [] };
}

/** Whether it is Ready, uncordoned, and here to stay. */
function takesPods({ metadata, spec, status }: Node): boolean {
  return (
    metadata.deletionTimestamp === undefined &&
    spec?.unschedulable !== true &&
    (status?.conditions?.some(({ type, status: is }) => type === "Ready" && is === "True") ?? false)
  );
}
