import type { Image } from "#api/v1/image.ts";
import type { ImagePlanSpec } from "#api/v1/image-plan.ts";
import { parseKey } from "#kube/key.ts";
import type { ObjectMeta } from "#kube/types.ts";

/** What some Images of a namespace take of its quota together. */
export interface Taken {
  /** How many different references. */
  readonly references: number;
  /** Compressed bytes on one node, each reference with its largest platform. */
  readonly bytes: number;
  /** The bytes that a reference is counted with, 0 if they are not known; `undefined` if none has it. */
  readonly sizeOf: (reference: string) => number | undefined;
}

/** Nothing, as in an empty namespace. */
export const nothingTaken: Taken = { references: 0, bytes: 0, sizeOf: () => undefined };

type Age = Pick<ObjectMeta, "name" | "creationTimestamp">;

type Sum = Pick<Taken, "references" | "bytes">;

/** An Image, and what it takes beyond the older ones. */
interface Member {
  readonly age: Age;
  readonly plan: ImagePlanSpec;
  readonly sizes: ReadonlyMap<string, number>;
  references: number;
  bytes: number;
}

/**
 * Knows what the Images of each namespace take of its quota, by their plans. Who came first takes
 * first, so that what is left for an Image is a sum over the older ones; a change of a plan costs as
 * much as there are Images with the same references.
 */
export class QuotaUsage {
  readonly #namespaces = new Map<string, NamespaceUsage>();

  /** Counts an Image by its plan, or anew by another one. */
  set({ metadata: { name, namespace = "", creationTimestamp } }: Image, plan: ImagePlanSpec): void {
    const usage = this.#namespaces.get(namespace) ?? new NamespaceUsage();
    this.#namespaces.set(namespace, usage);
    usage.set({ name, ...(creationTimestamp !== undefined && { creationTimestamp }) }, plan);
  }

  delete(imageKey: string): void {
    const { name, namespace = "" } = parseKey(imageKey);
    const usage = this.#namespaces.get(namespace);
    usage?.delete(name);
    if (usage?.isEmpty) this.#namespaces.delete(namespace);
  }

  /** What the Images take that were in the namespace before this one. It holds until the next change. */
  takenBefore({ metadata }: Image): Taken {
    return this.#namespaces.get(metadata.namespace ?? "")?.takenBefore(metadata) ?? nothingTaken;
  }
}

class NamespaceUsage {
  readonly #byName = new Map<string, Member>();
  /** The oldest first. */
  readonly #members: Member[] = [];
  /** What so many of the oldest members take; `undefined` after a change. */
  #sums: readonly Sum[] | undefined;
  /** By reference, the members that have it, the oldest first. */
  readonly #holders = new Map<string, Member[]>();

  get isEmpty(): boolean {
    return this.#byName.size === 0;
  }

  set(age: Age, plan: ImagePlanSpec): void {
    const { name, creationTimestamp } = age;
    const known = this.#byName.get(name);
    if (known?.plan === plan && known.age.creationTimestamp === creationTimestamp) return;
    this.delete(name);
    const member = { age, plan, sizes: sizesIn(plan), references: 0, bytes: 0 };
    this.#byName.set(name, member);
    insert(this.#members, member);
    this.#sums = undefined;
    for (const reference of member.sizes.keys()) {
      this.#recount(reference, (holders) => insert(holders, member));
    }
  }

  delete(name: string): void {
    const member = this.#byName.get(name);
    if (!member) return;
    for (const reference of member.sizes.keys()) {
      this.#recount(reference, (holders) => remove(holders, member));
    }
    remove(this.#members, member);
    this.#sums = undefined;
    this.#byName.delete(name);
  }

  takenBefore(age: Age): Taken {
    this.#sums ??= sumsOf(this.#members);
    const { references, bytes } = this.#sums[countOlder(this.#members, age)] ?? nothingTaken;
    const sizeOf = (reference: string): number | undefined => {
      let largest: number | undefined;
      const holders = this.#holders.get(reference) ?? [];
      for (const { sizes } of holders.slice(0, countOlder(holders, age))) {
        largest = Math.max(largest ?? 0, sizes.get(reference) ?? 0);
      }
      return largest;
    };
    return { references, bytes, sizeOf };
  }

  #recount(reference: string, change: (holders: Member[]) => void): void {
    const holders = this.#holders.get(reference) ?? [];
    count(reference, holders, -1);
    change(holders);
    count(reference, holders, 1);
    if (holders.length > 0) this.#holders.set(reference, holders);
    else this.#holders.delete(reference);
  }
}

/** Adds to each holder of a reference what it takes beyond the older ones, or with -1 takes it away. */
function count(reference: string, holders: readonly Member[], by: 1 | -1): void {
  let largest = 0;
  for (const [place, holder] of holders.entries()) {
    const size = holder.sizes.get(reference) ?? 0;
    if (place === 0) holder.references += by;
    holder.bytes += by * Math.max(size - largest, 0);
    largest = Math.max(largest, size);
  }
}

function sizesIn({ images }: ImagePlanSpec): Map<string, number> {
  return new Map(images.map((image) => [image.reference, largestSize(image)]));
}

/** The size of an image's largest platform, in bytes; 0 if none is known. */
export function largestSize({ sizes = [] }: ImagePlanSpec["images"][number]): number {
  return Math.max(0, ...sizes.map(({ sizeBytes }) => sizeBytes));
}

function sumsOf(members: readonly Member[]): Sum[] {
  let [references, bytes] = [0, 0];
  const sums = members.map((member) => {
    references += member.references;
    bytes += member.bytes;
    return { references, bytes };
  });
  return [{ references: 0, bytes: 0 }, ...sums];
}

/** How many of the members, which stand in order, were there before. */
function countOlder(members: readonly Member[], age: Age): number {
  let [low, high] = [0, members.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const member = members[middle];
    if (member && isOlder(member.age, age)) low = middle + 1;
    else high = middle;
  }
  return low;
}

function insert(members: Member[], member: Member): void {
  members.splice(countOlder(members, member.age), 0, member);
}

function remove(members: Member[], member: Member): void {
  members.splice(members.indexOf(member), 1);
}

/** Whether an Image was there before another one. */
export function isOlder(a: Age, b: Age): boolean {
  const [one = "", other = ""] = [a.creationTimestamp, b.creationTimestamp];
  return one < other || (one === other && a.name < b.name);
}
