import { parseKey } from "#kube/key.ts";

/** What changed hands. */
export interface PlaceMoves {
  /** Secrets that got a place. */
  readonly given: readonly string[];
  /** Secrets that lost theirs to another one. */
  readonly taken: readonly string[];
}

interface Namespace {
  readonly name: string;
  /** Its Secrets, in the order of their names. */
  readonly keys: string[];
  /** How many of them have a place: the first ones. */
  placed: number;
}

const none: PlaceMoves = { given: [], taken: [] };

/**
 * Shares a number of places among the Secrets of namespaces. While there are too few, each namespace
 * gets its first place before any gets its second one, and so on: in the order of names, whatever the
 * order in which Secrets came, so that all replicas have the same ones.
 */
export class WatchPlaces {
  readonly #max: number;
  readonly #maxPerNamespace: number;
  readonly #namespaces = new Map<string, Namespace>();
  #placed = 0;

  constructor({ max, maxPerNamespace }: { max: number; maxPerNamespace: number }) {
    this.#max = max;
    this.#maxPerNamespace = maxPerNamespace;
  }

  /** Finds a place for a Secret, by its key, or lets it wait for one. */
  add(key: string): PlaceMoves {
    const { namespace: name = "" } = parseKey(key);
    const namespace = this.#namespaces.get(name) ?? { name, keys: [], placed: 0 };
    this.#namespaces.set(name, namespace);
    const { keys } = namespace;
    const index = indexIn(keys, key);
    if (keys[index] === key) return none;
    const before = new Set(placedIn(namespace));
    keys.splice(index, 0, key);
    const taken = this.#makeRoom(namespace);
    if (taken) this.#count(namespace, 1);
    const after = new Set(placedIn(namespace));
    return {
      given: [...after.difference(before)],
      taken: [...before.difference(after), ...(taken ?? [])],
    };
  }

  /** Forgets a Secret. Its place goes to the one that is next. */
  remove(key: string): PlaceMoves {
    const { namespace: name = "" } = parseKey(key);
    const namespace = this.#namespaces.get(name);
    if (!namespace) return none;
    const { keys } = namespace;
    const index = indexIn(keys, key);
    if (keys[index] !== key) return none;
    keys.splice(index, 1);
    if (keys.length === 0) this.#namespaces.delete(name);
    if (index >= namespace.placed) return none;
    this.#count(namespace, -1);
    const heir = this.#firstWaiting();
    if (!heir) return none;
    this.#count(heir, 1);
    return { given: placedIn(heir).slice(-1), taken: [] };
  }

  /** Finds a place for one more of a namespace. @returns who loses it; `undefined` if there is none. */
  #makeRoom(namespace: Namespace): string[] | undefined {
    if (!this.#isWaiting(namespace)) return undefined;
    if (this.#placed < this.#max) return [];
    const last = this.#lastPlaced();
    if (!last || compareTurns(turnOf(namespace), turnOf(last, -1)) > 0) return undefined;
    const loser = placedIn(last).slice(-1);
    this.#count(last, -1);
    return loser;
  }

  #isWaiting({ keys, placed }: Namespace): boolean {
    return placed < Math.min(keys.length, this.#maxPerNamespace);
  }

  #lastPlaced(): Namespace | undefined {
    let last: Namespace | undefined;
    for (const each of this.#namespaces.values()) {
      if (each.placed > 0 && (!last || compareTurns(turnOf(each), turnOf(last)) > 0)) last = each;
    }
    return last;
  }

  #firstWaiting(): Namespace | undefined {
    let first: Namespace | undefined;
    for (const each of this.#namespaces.values()) {
      if (!this.#isWaiting(each)) continue;
      if (!first || compareTurns(turnOf(each), turnOf(first)) < 0) first = each;
    }
    return first;
  }

  #count(namespace: Namespace, by: 1 | -1): void {
    namespace.placed += by;
    this.#placed += by;
  }
}

/** When a place is given to one of a namespace: in which round, and in it by the name. */
interface Turn {
  readonly round: number;
  readonly name: string;
}

/** The turn of the next of a namespace to get a place, or of one before it. */
function turnOf({ placed, name }: Namespace, by = 0): Turn {
  return { round: placed + by, name };
}

function compareTurns(a: Turn, b: Turn): number {
  return a.round - b.round || (a.name < b.name ? -1 : Number(a.name > b.name));
}

function placedIn({ keys, placed }: Namespace): string[] {
  return keys.slice(0, placed);
}

/** Where a key stands among sorted ones, or would stand. */
function indexIn(keys: readonly string[], key: string): number {
  let [start, end] = [0, keys.length];
  while (start < end) {
    const middle = (start + end) >> 1;
    if ((keys[middle] ?? "") < key) start = middle + 1;
    else end = middle;
  }
  return start;
}
