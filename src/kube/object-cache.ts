import { formatKey, keyOf } from "./key.ts";
import type { ListFilter } from "./lister.ts";
import type { KubeObject } from "./types.ts";

/** What happened to one object. The `object` of a deletion is its last known state. */
export type Change<T> =
  | { readonly type: "added"; readonly key: string; readonly object: T }
  | { readonly type: "updated"; readonly key: string; readonly object: T; readonly previous: T }
  | { readonly type: "deleted"; readonly key: string; readonly object: T; readonly previous: T };

export interface ObjectCacheOptions<T> {
  /** Makes the object to keep of what the server sent; throws if it cannot. */
  read: (value: unknown) => T;
  indexes: Readonly<Record<string, (object: T) => readonly string[]>>;
}

/** Objects by key and by index, frozen. Each change of it is returned. */
export class ObjectCache<T extends KubeObject> {
  readonly #read: (value: unknown) => T;
  readonly #objects = new Map<string, T>();
  readonly #indexes: readonly Index<T>[];

  constructor({ read, indexes }: ObjectCacheOptions<T>) {
    this.#read = read;
    this.#indexes = Object.entries(indexes).map(([name, valuesOf]) => new Index(name, valuesOf));
  }

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  keys(): Iterable<string> {
    return this.#objects.keys();
  }

  /** A copy, so that the cache may change while it is read. */
  entries(): [key: string, object: T][] {
    return [...this.#objects];
  }

  list({ labels = {}, namespace }: ListFilter): T[] {
    const wanted = Object.entries(labels);
    return [...this.#objects.values()].filter(
      ({ metadata }) =>
        (namespace === undefined || metadata.namespace === namespace) &&
        wanted.every(([key, value]) => metadata.labels?.[key] === value),
    );
  }

  byIndex(name: string, value: string): T[] {
    const index = this.#indexes.find((index) => index.name === name);
    if (!index) throw new RangeError(`There is no index "${name}"`);
    return index.keys(value).flatMap((key) => this.#objects.get(key) ?? []);
  }

  /**
   * Keeps an object, unless it is the version that is there.
   *
   * @returns one change; two if another object had the name, which was then deleted unseen.
   */
  put(value: unknown): readonly Change<T>[] {
    const object = this.#read(value);
    const key = formatKey(keyOf(object));
    const previous = this.#objects.get(key);
    const version = object.metadata.resourceVersion;
    if (previous && version !== undefined && version === previous.metadata.resourceVersion)
      return [];
    const places = this.#indexes.map((index) => index.valuesOf(object));

    const isOther = previous !== undefined && previous.metadata.uid !== object.metadata.uid;
    const deleted = isOther ? this.remove(key) : [];
    this.#objects.set(key, deepFreeze(object));
    for (const [position, index] of this.#indexes.entries()) index.put(key, places[position] ?? []);
    if (!previous || isOther) return [...deleted, { type: "added", key, object }];
    return [{ type: "updated", key, object, previous }];
  }

  /** Forgets an object. @param last - its final state, if the server sent one. */
  remove(key: string, last?: unknown): readonly Change<T>[] {
    const previous = this.#objects.get(key);
    if (!previous) return [];
    this.#objects.delete(key);
    for (const index of this.#indexes) index.put(key, []);
    return [{ type: "deleted", key, object: this.#finalState(last) ?? previous, previous }];
  }

  #finalState(value: unknown): T | undefined {
    if (value === undefined) return undefined;
    try {
      return deepFreeze(this.#read(value));
    } catch {
      return undefined; // It is gone either way.
    }
  }
}

class Index<T> {
  readonly name: string;
  readonly valuesOf: (object: T) => readonly string[];
  readonly #keys = new Map<string, Set<string>>();
  readonly #values = new Map<string, readonly string[]>();

  constructor(name: string, valuesOf: (object: T) => readonly string[]) {
    this.name = name;
    this.valuesOf = valuesOf;
  }

  keys(value: string): string[] {
    return [...(this.#keys.get(value) ?? [])];
  }

  put(key: string, values: readonly string[]): void {
    for (const value of this.#values.get(key) ?? []) {
      const keys = this.#keys.get(value);
      keys?.delete(key);
      if (keys?.size === 0) this.#keys.delete(value);
    }
    for (const value of values) {
      const keys = this.#keys.get(value) ?? new Set();
      this.#keys.set(value, keys.add(key));
    }
    if (values.length > 0) this.#values.set(key, values);
    else this.#values.delete(key);
  }
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const part of Object.values(value)) deepFreeze(part);
  }
  return value;
}
