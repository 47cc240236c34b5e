import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";

/** A JSON object that may still be changed. */
export interface Json {
  [key: string]: unknown;
}

/** What the fake serves at one path. */
export interface Collection {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
  /** Whether `status` is written only through its subresource. */
  readonly hasStatus: boolean;
}

export interface StoreEvent {
  readonly revision: number;
  readonly collection: Collection;
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly object: Json;
  readonly previous: Json | undefined;
}

/** A refusal, as the API server words it. */
export class Refused extends Error {
  override readonly name = "Refused";
  readonly status: number;
  readonly reason: string;

  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

/** Objects with one revision counter over all kinds, and the log of their changes, as etcd keeps. */
export class FakeStore {
  readonly #objects = new Map<Collection, Map<string, Json>>();
  readonly #watchers = new Set<(event: StoreEvent) => void>();
  #log: StoreEvent[] = [];
  #revision = 1;
  #compacted = 0;

  get revision(): number {
    return this.#revision;
  }

  /** Forgets the log: watches from before now get 410. */
  compact(): void {
    this.#compacted = this.#revision;
    this.#log = [];
  }

  subscribe(watcher: (event: StoreEvent) => void): Disposable {
    this.#watchers.add(watcher);
    return { [Symbol.dispose]: () => this.#watchers.delete(watcher) };
  }

  /** The changes after a revision; `undefined` if some of them are forgotten. */
  since(revision: number): StoreEvent[] | undefined {
    if (revision < this.#compacted) return undefined;
    return this.#log.filter((event) => event.revision > revision);
  }

  all(collection: Collection): Json[] {
    const objects = [...this.#of(collection)];
    return objects.sort(([a], [b]) => (a < b ? -1 : 1)).map(([, object]) => object);
  }

  get(collection: Collection, key: string): Json {
    const object = this.#of(collection).get(key);
    if (object) return object;
    throw new Refused(404, "NotFound", `${collection.plural} "${key}" not found`);
  }

  has(collection: Collection, key: string): boolean {
    return this.#of(collection).has(key);
  }

  create(collection: Collection, namespace: string | undefined, given: Json): Json {
    const { name } = metadataOf(given);
    if (typeof name !== "string" || name === "") {
      throw new Refused(422, "Invalid", "metadata.name: Required value");
    }
    const key = namespace ? `${namespace}/${name}` : name;
    if (this.has(collection, key)) {
      throw new Refused(409, "AlreadyExists", `${collection.plural} "${name}" already exists`);
    }
    const object = structuredClone(given);
    if (collection.hasStatus) delete object["status"];
    object["metadata"] = {
      ...metadataOf(object),
      ...(namespace && { namespace }),
      uid: randomUUID(),
      generation: 1,
      creationTimestamp: new Date().toISOString().replace(/\.\d+Z/, "Z"),
    };
    return this.#put(collection, key, "ADDED", object);
  }

  /**
   * Replaces an object, or its status alone. A stale resourceVersion is refused, an equal object
   * writes nothing, and an object that waits for its last finalizer goes when that is removed.
   */
  update(collection: Collection, key: string, given: Json, subresource?: string): Json {
    const old = this.get(collection, key);
    const oldMetadata = metadataOf(old);
    const { resourceVersion, uid } = metadataOf(given);
    const isStale =
      resourceVersion !== undefined && resourceVersion !== oldMetadata["resourceVersion"];
    if (isStale || (uid !== undefined && uid !== oldMetadata["uid"])) {
      throw new Refused(409, "Conflict", `the ${collection.plural} "${key}" has been modified`);
    }
    const object =
      subresource === "status"
        ? { ...structuredClone(old), status: structuredClone(given["status"]) }
        : structuredClone(given);
    if (subresource === undefined && collection.hasStatus) object["status"] = old["status"];
    const { name, namespace, generation, creationTimestamp, deletionTimestamp } = oldMetadata;
    const isSameSpec = isDeepStrictEqual(object["spec"], old["spec"]);
    object["metadata"] = {
      ...metadataOf(object),
      name,
      namespace,
      uid: oldMetadata["uid"],
      creationTimestamp,
      deletionTimestamp,
      generation: Number(generation) + (isSameSpec ? 0 : 1),
      resourceVersion: oldMetadata["resourceVersion"],
    };
    const plain = toJson(object);
    if (isDeepStrictEqual(plain, old)) return old;
    if (deletionTimestamp !== undefined && !hasFinalizers(plain))
      return this.#remove(collection, key);
    return this.#put(collection, key, "MODIFIED", plain);
  }

  delete(collection: Collection, key: string, preconditions: Json): Json {
    const object = this.get(collection, key);
    for (const field of ["uid", "resourceVersion"]) {
      const wanted = preconditions[field];
      if (wanted !== undefined && wanted !== metadataOf(object)[field]) {
        throw new Refused(409, "Conflict", `the precondition on ${field} does not hold`);
      }
    }
    if (!hasFinalizers(object)) return this.#remove(collection, key);
    const marked = structuredClone(object);
    metadataOf(marked)["deletionTimestamp"] = new Date().toISOString();
    return this.#put(collection, key, "MODIFIED", marked);
  }

  #put(collection: Collection, key: string, type: "ADDED" | "MODIFIED", object: Json): Json {
    const previous = this.#of(collection).get(key);
    metadataOf(object)["resourceVersion"] = String(++this.#revision);
    const plain = toJson(object);
    this.#of(collection).set(key, plain);
    this.#publish({ revision: this.#revision, collection, type, object: plain, previous });
    return plain;
  }

  #remove(collection: Collection, key: string): Json {
    const previous = this.get(collection, key);
    this.#of(collection).delete(key);
    const object = structuredClone(previous);
    metadataOf(object)["resourceVersion"] = String(++this.#revision);
    this.#publish({ revision: this.#revision, collection, type: "DELETED", object, previous });
    return object;
  }

  #publish(event: StoreEvent): void {
    this.#log.push(event);
    for (const watcher of this.#watchers) watcher(event);
  }

  #of(collection: Collection): Map<string, Json> {
    const objects = this.#objects.get(collection) ?? new Map<string, Json>();
    this.#objects.set(collection, objects);
    return objects;
  }
}

/** An object's metadata, there to be changed. */
export function metadataOf(object: Json): Json {
  const { metadata } = object;
  if (isJson(metadata)) return metadata;
  throw new Refused(400, "BadRequest", "the object has no metadata");
}

export function isJson(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Leaves out what JSON does not say: fields that are undefined. */
function toJson(object: Json): Json {
  const plain: unknown = JSON.parse(JSON.stringify(object));
  return isJson(plain) ? plain : {};
}

function hasFinalizers(object: Json): boolean {
  const { finalizers } = metadataOf(object);
  return Array.isArray(finalizers) && finalizers.length > 0;
}
