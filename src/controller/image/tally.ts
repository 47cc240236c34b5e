import { isDeepStrictEqual } from "node:util";

import type { ReportedImage } from "#api/v1/node-report.ts";
import { isRemark, type Remark } from "#api/v1/remarks.ts";
import { matchesSelector, type Requirement } from "#api/v1/selector.ts";

/** What the counts need to know of a node. */
export interface NodeFacts {
  readonly labels: Readonly<Record<string, string>>;
  /** Whether the agent runs there: a Linux node that is not being deleted. */
  readonly isTarget: boolean;
  /** Creation, in milliseconds since 1970. */
  readonly createdMs: number;
}

/** What the counts need to know of an Image. */
export interface ImageFacts {
  /** Each image once, by its full name. */
  readonly references: readonly string[];
  readonly selector: readonly Requirement[];
  /** Whether nodes get a label for each of its images. */
  readonly hasNodeLabels: boolean;
  /** What must be there of images whose tags are followed: any other digest is not yet the image. */
  readonly digests?: ReadonlyMap<string, string>;
}

/** Nodes by state. */
export interface StateCounts {
  available: number;
  pending: number;
  error: number;
  unknown: number;
}

/** A failed pull on one node. */
export interface Failure {
  readonly node: string;
  readonly image: ReportedImage;
}

/** How one image of an Image is doing. */
export interface ReferenceCounts extends StateCounts {
  readonly reference: string;
  /** The failure that was met last, of the nodes that have one now. */
  readonly lastFailure?: Failure;
  /** What living nodes remark. */
  readonly remarked?: ReadonlyMap<Remark, readonly Remarked[]>;
}

/** A remark of one node, with the digest that it has. */
export interface Remarked {
  readonly node: string;
  readonly digest?: string;
}

/** How an Image is doing. */
export interface ImageCounts {
  /** Selected nodes that are targets, each counted by its worst image. */
  readonly nodes: Readonly<StateCounts>;
  readonly totalNodes: number;
  /** Selected nodes that are no targets. */
  readonly excludedNodes: number;
  readonly references: readonly ReferenceCounts[];
}

/** All nodes that were counted. */
export function totalOf({ available, pending, error, unknown }: Readonly<StateCounts>): number {
  return available + pending + error + unknown;
}

type State = keyof StateCounts;

const selected = 1;
const excluded = 2;

/** With typed arrays by node: thousands of nodes times hundreds of Images must fit into memory. */
interface ImageEntry {
  readonly key: string;
  readonly facts: ImageFacts;
  /** Place of each reference. */
  readonly places: ReadonlyMap<string, number>;
  /** By node: 0, `selected` or `excluded`. */
  membership: Uint8Array;
  /** By node: how many of the references are available there, and how many are errors. */
  available: Uint16Array;
  errors: Uint16Array;
  readonly nodes: StateCounts;
  excludedNodes: number;
  /** By reference: on how many living nodes. */
  readonly availableOn: Uint32Array;
  readonly errorsOn: Uint32Array;
  /** By reference: the living nodes with a failed pull. There are few, as a rule. */
  readonly failing: Map<number, Set<NodeEntry>>;
  /** By reference: the living nodes that remark something. */
  readonly remarking: Map<number, Set<NodeEntry>>;
  /** By reference: what was told of them last, until one of them reports something else. */
  readonly details: Map<number, Details>;
}

type Details = Pick<ReferenceCounts, "lastFailure" | "remarked">;

interface NodeEntry {
  readonly name: string;
  readonly slot: number;
  facts: NodeFacts | undefined;
  isAlive: boolean;
  /** In the order of their references. */
  report: readonly ReportedImage[];
}

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
  readonly #images = new Map<string, ImageEntry>();
  readonly #nodes = new Map<string, NodeEntry>();
  readonly #byReference = new Map<string, Set<ImageEntry>>();
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
    const size = facts.references.length;
    const image: ImageEntry = {
      key,
      facts,
      places: new Map(facts.references.map((reference, place) => [reference, place])),
      membership: new Uint8Array(this.#slots),
      available: new Uint16Array(this.#slots),
      errors: new Uint16Array(this.#slots),
      nodes: { available: 0, pending: 0, error: 0, unknown: 0 },
      excludedNodes: 0,
      availableOn: new Uint32Array(size),
      errorsOn: new Uint32Array(size),
      failing: new Map(),
      remarking: new Map(),
      details: new Map(),
    };
    this.#images.set(key, image);
    for (const reference of facts.references) {
      const images = this.#byReference.get(reference) ?? new Set();
      this.#byReference.set(reference, images.add(image));
    }
    for (const node of this.#nodes.values()) enter(image, node);
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
        if (image.membership[node.slot] !== selected) continue;
        const state = stateOn(image, node);
        count(image, node, before, -1);
        count(image, node, after, 1);
        image.nodes[state]--;
        image.nodes[stateOn(image, node)]++;
        this.#onChange(image.key);
      }
    }
    this.#forgetIfEmpty(node);
  }

  /** @returns `undefined` if there is no such Image. */
  countsOf(key: string): ImageCounts | undefined {
    const image = this.#images.get(key);
    if (!image) return undefined;
    const { available, pending, error, unknown } = image.nodes;
    const totalNodes = totalOf(image.nodes);
    const references = image.facts.references.map((reference, place) => {
      const availableOn = image.availableOn[place] ?? 0;
      const errorsOn = image.errorsOn[place] ?? 0;
      return {
        reference,
        available: availableOn,
        pending: totalNodes - unknown - availableOn - errorsOn,
        error: errorsOn,
        unknown,
        ...detailsOf(image, place, reference),
      };
    });
    const nodes = { available, pending, error, unknown };
    return { nodes, totalNodes, excludedNodes: image.excludedNodes, references };
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
      if (image.membership[node.slot] !== selected || !node.facts) continue;
      if (stateOn(image, node) === "available") continue;
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
  #labellersOf(reference: string, { slot }: NodeEntry): string[] {
    const namespaces = new Set<string>();
    for (const { key, facts, membership } of this.#byReference.get(reference) ?? []) {
      if (facts.hasNodeLabels && membership[slot] === selected) namespaces.add(namespaceOf(key));
    }
    return [...namespaces];
  }

  /** Names of the nodes that an Image selects. */
  nodesOf(key: string): string[] {
    const image = this.#images.get(key);
    if (!image) return [];
    return [...this.#nodes.values()]
      .filter(({ slot }) => image.membership[slot] === selected)
      .map(({ name }) => name);
  }

  #nodeOf(name: string): NodeEntry {
    const known = this.#nodes.get(name);
    if (known) return known;
    const slot = this.#freeSlots.pop() ?? this.#slots++;
    const node: NodeEntry = { name, slot, facts: undefined, isAlive: false, report: [] };
    this.#nodes.set(name, node);
    for (const image of this.#images.values()) grow(image, this.#slots);
    return node;
  }

  /** Takes a node out of all counts, changes it, and puts it in again. */
  #change(node: NodeEntry, change: (node: NodeEntry) => void): void {
    const images = [...this.#images.values()];
    const before = images.map((image) => image.membership[node.slot] ?? 0);
    for (const image of images) leave(image, node);
    change(node);
    for (const [position, image] of images.entries()) {
      enter(image, node);
      const was = before[position] !== 0;
      if (was || image.membership[node.slot] !== 0) this.#onChange(image.key);
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

function enter(image: ImageEntry, node: NodeEntry): void {
  const { facts, slot } = node;
  if (!facts || !matchesSelector(image.facts.selector, facts.labels)) return;
  if (!facts.isTarget) {
    image.membership[slot] = excluded;
    image.excludedNodes++;
    return;
  }
  image.membership[slot] = selected;
  for (const reported of node.report) count(image, node, reported, 1);
  image.nodes[stateOn(image, node)]++;
}

function leave(image: ImageEntry, node: NodeEntry): void {
  const membership = image.membership[node.slot];
  image.membership[node.slot] = 0;
  if (membership === excluded) image.excludedNodes--;
  if (membership !== selected) return;
  image.nodes[stateOn(image, node)]--;
  for (const reported of node.report) count(image, node, reported, -1);
}

/** Adds one reported image of a node to the counts, or with -1 takes it away. */
function count(
  image: ImageEntry,
  node: NodeEntry,
  reported: ReportedImage | undefined,
  by: 1 | -1,
): void {
  const place = reported && image.places.get(reported.reference);
  if (!reported || place === undefined) return;
  const state = isOutdated(image, reported) ? "pending" : reported.state;
  const [perNode, perReference] =
    state === "available" ? [image.available, image.availableOn] : [image.errors, image.errorsOn];
  if (state !== "pending") {
    perNode[node.slot] = (perNode[node.slot] ?? 0) + by;
    if (node.isAlive) perReference[place] = (perReference[place] ?? 0) + by;
  }
  if (!node.isAlive) return;
  image.details.delete(place);
  if (hasFailed(reported)) mark(image.failing, place, node, by);
  if (isRemark(reported?.reason)) mark(image.remarking, place, node, by);
}

/** Its agent may not have heard of the new digest yet. */
function isOutdated({ facts }: ImageEntry, { reference, state, digest }: ReportedImage): boolean {
  const expected = facts.digests?.get(reference);
  return (
    state === "available" && digest !== undefined && expected !== undefined && digest !== expected
  );
}

function mark(
  marked: Map<number, Set<NodeEntry>>,
  place: number,
  node: NodeEntry,
  by: 1 | -1,
): void {
  const nodes = marked.get(place) ?? new Set();
  if (by === 1) marked.set(place, nodes.add(node));
  else nodes.delete(node);
  if (nodes.size === 0) marked.delete(place);
}

function stateOn(image: ImageEntry, { isAlive, slot }: NodeEntry): State {
  if (!isAlive) return "unknown";
  if ((image.errors[slot] ?? 0) > 0) return "error";
  return image.available[slot] === image.places.size ? "available" : "pending";
}

/** A pull that failed, be it tried again or not. A pull that merely waits gives a reason too. */
function hasFailed(image: ReportedImage | undefined): boolean {
  return image !== undefined && image.state !== "available" && (image.attempts ?? 0) > 0;
}

function lastOf(reference: string, nodes: ReadonlySet<NodeEntry> = new Set()): Failure | undefined {
  let last: Failure | undefined;
  for (const { name, report } of nodes) {
    const image = report[placeOf(report, reference)];
    if (!image || !hasFailed(image)) continue;
    // Of two at the same time, the one of the first node by name: the answer must not depend on
    // the order in which reports came.
    const isLater =
      !last ||
      image.since > last.image.since ||
      (image.since === last.image.since && name < last.node);
    if (isLater) last = { node: name, image };
  }
  return last;
}

function detailsOf(image: ImageEntry, place: number, reference: string): Details {
  const known = image.details.get(place);
  if (known) return known;
  const lastFailure = lastOf(reference, image.failing.get(place));
  const remarked = remarkedOf(reference, image.remarking.get(place));
  const details = { ...(lastFailure && { lastFailure }), ...(remarked && { remarked }) };
  image.details.set(place, details);
  return details;
}

function remarkedOf(
  reference: string,
  nodes: ReadonlySet<NodeEntry> | undefined,
): ReadonlyMap<Remark, Remarked[]> | undefined {
  if (!nodes) return undefined;
  const found = new Map<Remark, Remarked[]>();
  for (const { name, report } of nodes) {
    const { reason, digest } = report[placeOf(report, reference)] ?? {};
    if (!isRemark(reason)) continue;
    const list = found.get(reason) ?? [];
    list.push({ node: name, ...(digest !== undefined && { digest }) });
    found.set(reason, list);
  }
  return found;
}

function grow(image: ImageEntry, slots: number): void {
  if (image.membership.length >= slots) return;
  const size = Math.max(slots, image.membership.length * 2);
  image.membership = copyInto(new Uint8Array(size), image.membership);
  image.available = copyInto(new Uint16Array(size), image.available);
  image.errors = copyInto(new Uint16Array(size), image.errors);
}

function copyInto<T extends Uint8Array | Uint16Array>(target: T, source: T): T {
  target.set(source);
  return target;
}

function inOrder(images: readonly ReportedImage[]): readonly ReportedImage[] {
  const isInOrder = images.every(
    ({ reference }, place) => place === 0 || (images[place - 1]?.reference ?? "") < reference,
  );
  if (isInOrder) return images;
  // Somebody else's hand: of two with one name the first counts, as the list is keyed by name.
  const sorted = images.toSorted((a, b) => compare(a.reference, b.reference));
  return sorted.filter(({ reference }, place) => sorted[place - 1]?.reference !== reference);
}

/** Yields what differs between two reports in order: before and after, either of which may be missing. */
function* differences(
  before: readonly ReportedImage[],
  after: readonly ReportedImage[],
): Generator<[ReportedImage | undefined, ReportedImage | undefined]> {
  let [left, right] = [0, 0];
  while (left < before.length || right < after.length) {
    const [old, next] = [before[left], after[right]];
    const order = !old ? 1 : !next ? -1 : compare(old.reference, next.reference);
    if (order <= 0) left++;
    if (order >= 0) right++;
    if (order !== 0) yield order < 0 ? [old, undefined] : [undefined, next];
    else if (!isSame(old, next)) yield [old, next];
  }
}

function isSame(a: ReportedImage | undefined, b: ReportedImage | undefined): boolean {
  return (
    a === b ||
    (a?.state === b?.state &&
      a?.attempts === b?.attempts &&
      a?.reason === b?.reason &&
      a?.message === b?.message &&
      a?.digest === b?.digest &&
      a?.since === b?.since)
  );
}

function placeOf(images: readonly ReportedImage[], reference: string): number {
  let [low, high] = [0, images.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((images[middle]?.reference ?? "") < reference) low = middle + 1;
    else high = middle;
  }
  return images[low]?.reference === reference ? low : -1;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
