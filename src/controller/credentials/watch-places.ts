import { parseKey } from "#kube/key.ts";

/** What changed hands. */
export interface PlaceMoves {
  /** Secrets that got a place. */
  readonly given: readonly string[];
  /** Secrets that lost theirs to another namespace. */
  readonly taken: readonly string[];
}

interface Namespace {
  /** Its Secrets with a place, and those without, each in the order in which they came. */
  readonly placed: Set<string>;
  readonly waiting: Set<string>;
}

const none: PlaceMoves = { given: [], taken: [] };

/**
 * Shares a number of places among the Secrets of namespaces. While there are too few, no namespace
 * has two more than another one that waits: who comes late gets its first places from those that have
 * most, and these lose what they named last.
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
    const namespace = this.#namespaces.get(name) ?? { placed: new Set(), waiting: new Set() };
    this.#namespaces.set(name, namespace);
    if (namespace.placed.has(key)) return none;
    namespace.waiting.add(key);
    if (namespace.placed.size >= this.#maxPerNamespace) return none;
    const taken = this.#placed < this.#max ? [] : this.#takeFor(namespace);
    return taken ? { given: [this.#give(namespace)], taken } : none;
  }

  /** Forgets a Secret. Its place goes to the namespace that has fewest, of those that wait. */
  remove(key: string): PlaceMoves {
    const { namespace: name = "" } = parseKey(key);
    const namespace = this.#namespaces.get(name);
    if (!namespace) return none;
    namespace.waiting.delete(key);
    const isFreed = namespace.placed.delete(key);
    if (isFreed) this.#placed--;
    if (namespace.placed.size + namespace.waiting.size === 0) this.#namespaces.delete(name);
    const next = isFreed ? this.#poorest() : undefined;
    return next ? { given: [this.#give(next)], taken: [] } : none;
  }

  /** Takes a place from whoever has most, unless the one that wants it would then have as many. */
  #takeFor({ placed: { size: own } }: Namespace): string[] | undefined {
    let richest: Namespace | undefined;
    for (const each of this.#namespaces.values()) {
      if (each.placed.size > (richest?.placed.size ?? own + 1)) richest = each;
    }
    const last = richest && [...richest.placed].at(-1);
    if (last === undefined) return undefined;
    richest?.placed.delete(last);
    richest?.waiting.add(last);
    this.#placed--;
    return [last];
  }

  #poorest(): Namespace | undefined {
    let poorest: Namespace | undefined;
    for (const each of this.#namespaces.values()) {
      if (each.waiting.size === 0) continue;
      if (each.placed.size < (poorest?.placed.size ?? this.#maxPerNamespace)) poorest = each;
    }
    return poorest;
  }

  /** Gives a place to the Secret of a namespace that has waited longest. */
  #give({ placed, waiting }: Namespace): string {
    const [first = ""] = waiting;
    waiting.delete(first);
    placed.add(first);
    this.#placed++;
    return first;
  }
}
