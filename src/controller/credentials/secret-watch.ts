import { hash } from "node:crypto";

import type { Image } from "#api/v1/image.ts";
import { TaskGroup } from "#async/task-group.ts";
import type { SecretProblem } from "#controller/image/status.ts";
import type { Informer } from "#kube/informer.ts";
import { formatKey, parseKey } from "#kube/key.ts";
import type { KeyringEntry } from "#remote/keyring.ts";
import { isObjectName } from "./pull-secret.ts";
import { WatchPlaces, type PlaceMoves } from "./watch-places.ts";
import { WatchPool, type OwnClient } from "./watch-pool.ts";
import { WatchedSecret, type WatchDeps } from "./watched-secret.ts";

export interface SecretWatchOptions extends Omit<WatchDeps, "client"> {
  /** Makes a client whose connection is for some dozens of Secrets. It ends with the watch. */
  connect: () => OwnClient;
  images: Pick<Informer<Image>, "onChange">;
  /** The most Secrets watched at once, by each replica. */
  maxSecrets?: number;
  /** The most of one namespace, so that it cannot take the places of all others. */
  maxPerNamespace?: number;
}

type SecretName = { readonly namespace: string; readonly name: string };

/**
 * Knows the Secrets that Images name, and no others: each is watched by its name while an Image of
 * its namespace names it. Of their contents, only logins are kept, in memory.
 */
export class SecretWatch implements AsyncDisposable {
  readonly #pool: WatchPool;
  readonly #deps: WatchDeps;
  readonly #places: WatchPlaces;
  readonly #images: Disposable;
  readonly #listeners = new Set<(secret: SecretName) => void>();
  /** By Image, the keys of the Secrets it names. */
  readonly #namedBy = new Map<string, ReadonlySet<string>>();
  /** By Secret, how many Images name it. */
  readonly #uses = new Map<string, number>();
  readonly #watched = new Map<string, WatchedSecret>();
  #start: ((secret: WatchedSecret) => void) | undefined;

  constructor(options: SecretWatchOptions) {
    const { connect, clock, random, log } = options;
    this.#pool = new WatchPool(connect);
    this.#deps = { client: this.#pool, clock, log, ...(random && { random }) };
    const { maxSecrets = 1_000, maxPerNamespace = 32 } = options;
    this.#places = new WatchPlaces({ max: maxSecrets, maxPerNamespace });
    this.#images = options.images.onChange(({ type, key, object }) => {
      this.#setNamed(key, type === "deleted" ? new Set() : keysOf(object));
    });
  }

  /** Watches until aborted. Call it once. */
  async run(signal: AbortSignal): Promise<void> {
    await using group = new TaskGroup(signal);
    const ended = Promise.withResolvers<void>();
    this.#start = (secret) => {
      group.run((scope) => secret.run(scope)).catch(ended.reject);
    };
    for (const secret of this.#watched.values()) this.#start(secret);
    const end = (): void => ended.resolve();
    signal.addEventListener("abort", end, { once: true });
    try {
      if (!signal.aborted) await ended.promise;
    } finally {
      signal.removeEventListener("abort", end);
      this.#start = undefined;
    }
  }

  /** What Secrets of a namespace hold, in the order of the names. What cannot be read holds nothing. */
  entriesFor(namespace: string, names: readonly string[]): readonly KeyringEntry[] {
    return names.flatMap((name) => {
      const state = this.#stateOf({ namespace, name });
      return typeof state === "string" ? [] : state.entries;
    });
  }

  /** What is wrong with Secrets, for people. Nothing of what they hold is in it. */
  problemsOf(namespace: string, names: readonly string[]): readonly SecretProblem[] {
    return names.flatMap((name) => {
      const state = this.#stateOf({ namespace, name });
      if (state === "reading") return [];
      if (typeof state === "string") return { ...stateProblems[state], name };
      const { problems } = state;
      return problems.length === 0
        ? []
        : { name, reason: "SecretInvalid", message: problems.join("; ") };
    });
  }

  /**
   * Changes when one of the Secrets does, comes or goes; `undefined` while one is being read. Made
   * of names, uids and versions: it tells nothing of what they hold.
   */
  revisionOf(namespace: string, names: readonly string[]): string | undefined {
    const parts: string[][] = [];
    for (const name of names) {
      const state = this.#stateOf({ namespace, name });
      if (state === "reading") return undefined;
      if (typeof state === "string") parts.push([name, state]);
      else parts.push([name, state.metadata.uid ?? "", state.metadata.resourceVersion ?? ""]);
    }
    return hash("sha256", JSON.stringify(parts)).slice(0, 16);
  }

  /** Hears of each Secret whose state or content changed. */
  onChange(listener: (secret: SecretName) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  /** Listens to Images no more, lets all Secrets go, and ends the connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#images[Symbol.dispose]();
    for (const key of this.#namedBy.keys()) this.#setNamed(key, new Set());
    await this.#pool[Symbol.asyncDispose]();
  }

  #stateOf(secret: SecretName): WatchedSecret["state"] | "impossible" | "over" {
    if (!isObjectName(secret.name)) return "impossible";
    const key = formatKey(secret);
    const watched = this.#watched.get(key);
    if (watched) return watched.state;
    // The Image that names it may not have been heard of yet.
    return this.#uses.has(key) ? "over" : "reading";
  }

  #setNamed(image: string, keys: ReadonlySet<string>): void {
    const before = this.#namedBy.get(image) ?? new Set();
    if (keys.size > 0) this.#namedBy.set(image, keys);
    else this.#namedBy.delete(image);
    for (const key of keys.difference(before)) {
      this.#uses.set(key, (this.#uses.get(key) ?? 0) + 1);
      this.#move(this.#places.add(key));
    }
    for (const key of before.difference(keys)) {
      const uses = (this.#uses.get(key) ?? 1) - 1;
      if (uses > 0) this.#uses.set(key, uses);
      else this.#release(key);
    }
  }

  #release(key: string): void {
    this.#uses.delete(key);
    this.#unwatch(key);
    this.#move(this.#places.remove(key));
  }

  #move({ given, taken }: PlaceMoves): void {
    for (const key of taken) {
      this.#unwatch(key);
      this.#tell(key);
    }
    for (const key of given) this.#watch(key);
  }

  #watch(key: string): void {
    const { name, namespace = "" } = parseKey(key);
    const secret = new WatchedSecret({ namespace, name }, this.#deps, () => this.#tell(key));
    this.#watched.set(key, secret);
    this.#start?.(secret);
  }

  #unwatch(key: string): void {
    this.#watched.get(key)?.stop();
    this.#watched.delete(key);
  }

  #tell(key: string): void {
    const { name, namespace = "" } = parseKey(key);
    for (const listener of this.#listeners) listener({ namespace, name });
  }
}

const stateProblems = {
  missing: { reason: "SecretNotFound", message: "is not there" },
  unreadable: {
    reason: "SecretUnreadable",
    message: "cannot be read: Coral may lack the right, or the API server fails",
  },
  impossible: { reason: "SecretInvalid", message: "is no name that a Secret can have" },
  over: {
    reason: "SecretsTooMany",
    message: "is one more than Coral watches, of this namespace or of all",
  },
} as const;

function keysOf({ metadata: { namespace = "" }, spec }: Image): ReadonlySet<string> {
  const names = spec.imagePullSecrets.map(({ name }) => name).filter(isObjectName);
  return new Set(names.map((name) => formatKey({ namespace, name })));
}
