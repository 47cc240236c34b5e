import { fullJitter } from "#async/backoff.ts";
import { isAbort } from "#async/abort.ts";
import type { Clock } from "#async/clock.ts";
import type { Log } from "#telemetry/log.ts";
import type { KubeClient, Selection, WatchEvent } from "./client.ts";
import { ApiError } from "./errors.ts";
import { formatKey, type ObjectKey } from "./key.ts";
import type { Lister, ListFilter } from "./lister.ts";
import { ObjectCache, type Change } from "./object-cache.ts";
import type { Resource } from "./resource.ts";
import { isJsonObject, type JsonObject } from "#json/json.ts";
import type { KubeObject } from "./types.ts";

/**
 * Waits between attempts stay short, as a status must be right 15 s after the API server is back.
 * Jitter over the whole range keeps a thousand agents from coming back at once.
 */
const backoff = { minMs: 500, maxMs: 5_000 };

/** A server that asks for more patience than this would make us late. */
const maxRetryAfterMs = 10_000;

/** A watch that ends sooner did not end because its time was up (client-go's reflector.go). */
const shortWatchMs = 1_000;

/** How long one watch may last: apart enough that agents do not renew theirs together. */
const minWatchMs = 30 * 60_000;

export interface InformerOptions<T extends KubeObject> {
  client: Pick<KubeClient, "listRaw" | "watch" | "watchError">;
  resource: Resource<T>;
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  /** Drops what nobody reads, before the object is kept. It may change the object it is given. */
  transform?: (object: T) => T;
  /** Values under which `byIndex` finds an object, per index. */
  indexes?: Readonly<Record<string, (object: T) => readonly string[]>>;
  log: Log;
  clock: Clock;
  random?: () => number;
  /** How long one watch lasts; otherwise 30 to 60 minutes, chosen anew for each. */
  watchTimeoutMs?: number;
}

/**
 * Keeps a copy of a kind's objects, fed by a watch, and tells what changes.
 *
 * Nothing is missed: a watch that ends is taken up where it ended, and when the server has
 * forgotten that place (410) everything is read again by watch (`sendInitialEvents`) and compared,
 * so that listeners hear of deletions too. It lists only if the server knows no other way.
 * Several changes of one object may be told as one. An object that cannot be read is logged once
 * and skipped; what was known of it stays. Objects are frozen and shared: do not modify.
 *
 * ```ts
 * const informer = new Informer({ client, resource: nodes, log, clock });
 * using _ = informer.onChange(({ key }) => queue.add(key));
 * group.run((signal) => informer.run(signal));
 * await informer.synced({ signal });
 * ```
 */
export class Informer<T extends KubeObject> implements Lister<T> {
  readonly #client: InformerOptions<T>["client"];
  readonly #resource: Resource<T>;
  readonly #selection: Selection;
  readonly #cache: ObjectCache<T>;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #watchTimeoutMs: number | undefined;
  readonly #listeners = new Set<(change: Change<T>) => void>();
  readonly #synced = Promise.withResolvers<void>();
  #hasSynced = false;

  /** Up to where the cache is complete, and a watch can go on. */
  #resourceVersion: string | undefined;

  /** Keys of objects that could not be read, each of which was logged. */
  readonly #malformed = new Set<string>();

  constructor(options: InformerOptions<T>) {
    const { client, resource, namespace, labelSelector, fieldSelector, transform } = options;
    this.#client = client;
    this.#resource = resource;
    this.#selection = { namespace, labelSelector, fieldSelector };
    this.#cache = new ObjectCache({
      read: (value) => (transform ? transform(resource.parse(value)) : resource.parse(value)),
      indexes: options.indexes ?? {},
    });
    this.#log = options.log.child({ kind: resource.kind });
    this.#clock = options.clock;
    this.#random = options.random ?? Math.random;
    this.#watchTimeoutMs = options.watchTimeoutMs;
  }

  /** Whether the cache was complete once. It stays usable, if perhaps behind, ever after. */
  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  /** Waits until `hasSynced`. */
  async synced({ signal }: { signal: AbortSignal }): Promise<void> {
    signal.throwIfAborted();
    const aborted = Promise.withResolvers<never>();
    const onAbort = (): void => aborted.reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await Promise.race([this.#synced.promise, aborted.promise]);
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  get(key: string | ObjectKey): T | undefined {
    return this.#cache.get(typeof key === "string" ? key : formatKey(key));
  }

  list(filter: ListFilter = {}): T[] {
    return this.#cache.list(filter);
  }

  /**
   * Finds the objects that an index has under a value.
   *
   * @throws {RangeError} if the informer was made without such an index.
   */
  byIndex(name: string, value: string): T[] {
    return this.#cache.byIndex(name, value);
  }

  /**
   * Calls `listener` for every change, after the cache shows it; at once with an `added` for each
   * object that is there. What it throws is logged.
   */
  onChange(listener: (change: Change<T>) => void): Disposable {
    for (const [key, object] of this.#cache.entries()) {
      this.#tell(listener, { type: "added", key, object });
    }
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  /** Feeds the cache until aborted. No fault of the server ends it. Call it once. */
  async run(signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      const startedAtMs = this.#clock.now().getTime();
      const attempt = { gotEvents: false };
      try {
        await this.#follow(attempt, signal);
        const lastedMs = this.#clock.now().getTime() - startedAtMs;
        const isShort = !attempt.gotEvents && lastedMs < shortWatchMs;
        failures = isShort ? failures + 1 : 0;
        if (isShort) await this.#pause(failures, undefined, signal);
      } catch (error) {
        if (isAbort(error, signal)) return;
        failures = attempt.gotEvents ? 1 : failures + 1;
        // Losing one connection, or one's place, is everyday life.
        const level = failures > 2 ? "warn" : "debug";
        this.#log[level]("watch failed", { error, attempt: failures });
        await this.#pause(failures, error, signal);
      }
    }
  }

  /** Runs one watch to its end. */
  async #follow(attempt: { gotEvents: boolean }, signal: AbortSignal): Promise<void> {
    if (this.#resourceVersion !== undefined) {
      const from = { resourceVersion: this.#resourceVersion };
      for await (const event of this.#watch(from, signal)) {
        this.#apply(event);
        attempt.gotEvents = true;
      }
      return;
    }
    try {
      await this.#readAllAndFollow(attempt, signal);
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 422)) throw error;
      this.#log.info("API server has no streaming lists, listing instead", { error });
      await this.#list(signal);
      attempt.gotEvents = true;
    }
  }

  /** A watch that begins with every object, as it is now, and a bookmark behind the last. */
  async #readAllAndFollow(attempt: { gotEvents: boolean }, signal: AbortSignal): Promise<void> {
    const query = { sendInitialEvents: true, resourceVersionMatch: "NotOlderThan" };
    let unseen: Set<string> | undefined = new Set(this.#cache.keys());
    for await (const event of this.#watch(query, signal)) {
      if (unseen) {
        const key = this.#applyInitial(event);
        if (key !== undefined) unseen.delete(key);
        if (!isEndOfInitialEvents(event)) continue;
        this.#complete(unseen);
        unseen = undefined;
      }
      this.#apply(event);
      attempt.gotEvents = true;
    }
  }

  /** For servers from before streaming lists: the same in pages. */
  async #list(signal: AbortSignal): Promise<void> {
    const { items, resourceVersion } = await this.#client.listRaw(this.#resource, {
      ...this.#selection,
      signal,
    });
    const unseen = new Set(this.#cache.keys());
    for (const item of items) {
      const key = this.#put(item);
      if (key !== undefined) unseen.delete(key);
    }
    this.#complete(unseen);
    this.#resourceVersion = resourceVersion;
  }

  #watch(query: Record<string, string | boolean>, signal: AbortSignal): AsyncIterable<WatchEvent> {
    return this.#client.watch(this.#resource, {
      ...this.#selection,
      query: { ...query, allowWatchBookmarks: true },
      timeoutMs: this.#watchTimeoutMs ?? minWatchMs * (1 + this.#random()),
      signal,
    });
  }

  /**
   * Takes an event from before the end of the initial ones. They are in no order of versions, so
   * that none of them is a place to go on from.
   */
  #applyInitial({ type, object }: WatchEvent): string | undefined {
    if (type === "ERROR") throw this.#client.watchError(this.#resource, object);
    if (type === "DELETED") this.#remove(object);
    return type === "ADDED" || type === "MODIFIED" ? this.#put(object) : undefined;
  }

  #apply({ type, object }: WatchEvent): void {
    if (type === "ERROR") throw this.#fault(object);
    if (type === "ADDED" || type === "MODIFIED") this.#put(object);
    if (type === "DELETED") this.#remove(object);
    this.#resourceVersion = metadataOf(object).resourceVersion ?? this.#resourceVersion;
  }

  /** All objects are in: what was not among them is gone. */
  #complete(unseen: Iterable<string>): void {
    for (const key of unseen) {
      this.#malformed.delete(key);
      this.#tellAll(this.#cache.remove(key));
    }
    if (this.#hasSynced) return;
    this.#hasSynced = true;
    this.#synced.resolve();
  }

  /** @returns the object's key, also if it could not be read. */
  #put(value: unknown): string | undefined {
    const key = metadataOf(value).key;
    let changes: readonly Change<T>[];
    try {
      changes = this.#cache.put(value);
    } catch (error) {
      const known = key ?? "";
      const fields = { name: key, error };
      if (!this.#malformed.has(known)) this.#log.warn("malformed object skipped", fields);
      this.#malformed.add(known);
      return key;
    }
    if (key !== undefined) this.#malformed.delete(key);
    this.#tellAll(changes);
    return key;
  }

  #remove(value: unknown): void {
    const { key } = metadataOf(value);
    if (key === undefined) return;
    this.#malformed.delete(key);
    this.#tellAll(this.#cache.remove(key, value));
  }

  /** Makes the error for an ERROR event, and begins anew if the server forgot where we are. */
  #fault(status: unknown): ApiError {
    const error = this.#client.watchError(this.#resource, status);
    this.#forgetIfExpired(error);
    return error;
  }

  #forgetIfExpired(error: unknown): void {
    if (error instanceof ApiError && error.status === 410) this.#resourceVersion = undefined;
  }

  async #pause(failures: number, error: unknown, signal: AbortSignal): Promise<void> {
    this.#forgetIfExpired(error);
    const askedMs = error instanceof ApiError ? (error.retryAfterMs ?? 0) : 0;
    const waitMs = Math.max(
      fullJitter(failures, { ...backoff, random: this.#random }),
      Math.min(askedMs, maxRetryAfterMs),
    );
    try {
      await this.#clock.sleep(waitMs, { signal });
    } catch (fault) {
      if (!isAbort(fault, signal)) throw fault;
    }
  }

  #tellAll(changes: readonly Change<T>[]): void {
    for (const change of changes) {
      // A copy: who comes to listen meanwhile hears of this object as one that is there.
      for (const listener of Array.from(this.#listeners)) this.#tell(listener, change);
    }
  }

  #tell(listener: (change: Change<T>) => void, change: Change<T>): void {
    try {
      listener(change);
    } catch (error) {
      this.#log.error("listener failed", { name: change.key, error });
    }
  }
}

function isEndOfInitialEvents({ type, object }: WatchEvent): boolean {
  return type === "BOOKMARK" && metadataOf(object).endsInitialEvents;
}

interface RawMetadata {
  readonly key: string | undefined;
  readonly resourceVersion: string | undefined;
  readonly endsInitialEvents: boolean;
}

/** Reads what the feed itself needs, of objects that may be malformed elsewhere. */
function metadataOf(value: unknown): RawMetadata {
  const metadata = asObject(asObject(value)["metadata"]);
  const { name, namespace, resourceVersion } = metadata;
  const annotations = asObject(metadata["annotations"]);
  return {
    key:
      typeof name === "string" && name !== ""
        ? formatKey({ name, ...(typeof namespace === "string" && { namespace }) })
        : undefined,
    resourceVersion: typeof resourceVersion === "string" ? resourceVersion : undefined,
    endsInitialEvents: annotations["k8s.io/initial-events-end"] === "true",
  };
}

function asObject(value: unknown): JsonObject {
  return isJsonObject(value) ? value : {};
}
