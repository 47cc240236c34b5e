import { hash } from "node:crypto";

import { TaskGroup } from "#async/task-group.ts";
import { formatKey, parseKey } from "#kube/key.ts";
import type { KeyringEntry } from "#remote/keyring.ts";
import { isObjectName } from "./kept-secret.ts";
import { WatchPlaces, type PlaceMoves } from "./watch-places.ts";
import { WatchPool, type OwnClient } from "./watch-pool.ts";
import { WatchedSecret, type WatchDeps } from "./watched-secret.ts";

export interface SecretWatchOptions extends Omit<WatchDeps, "client"> {
  /** Makes a client whose connection is for some dozens of Secrets. It ends with the watch. */
  connect: () => OwnClient;
  /** The most Secrets watched at once, by each replica. */
  maxSecrets?: number;
  /** The most of one namespace, so that it cannot take the places of all others. */
  maxPerNamespace?: number;
}

type SecretName = { readonly namespace: string; readonly name: string };

/** A Secret that cannot be used. */
export interface SecretProblem {
  readonly name: string;
  /** `SecretNotFound`, `SecretInvalid` and so on. */
  readonly reason: string;
  /** For people, without anything of the Secret's content. */
  readonly message: string;
}

/**
 * Knows the Secrets that users name, and no others: each is watched by its name while a user in its
 * namespace names it. Of their contents, only logins and `ca.crt` are kept, in memory.
 *
 * ```ts
 * secrets.use("team/tools", "team", ["push", "pull", "ca"]);
 * const logins = loginsFor(repository, secrets.entriesFor("team", ["push", "pull"]));
 * const ca = secrets.caOf("team", "ca");
 * ```
 */
export class SecretWatch implements AsyncDisposable {
  readonly #pool: WatchPool;
  readonly #deps: WatchDeps;
  readonly #places: WatchPlaces;
  readonly #listeners = new Set<(secret: SecretName) => void>();
  /** By user, the keys of the Secrets it names. */
  readonly #namedBy = new Map<string, ReadonlySet<string>>();
  /** By Secret, how many users name it. */
  readonly #uses = new Map<string, number>();
  readonly #watched = new Map<string, WatchedSecret>();
  #start: ((secret: WatchedSecret) => void) | undefined;

  constructor(options: SecretWatchOptions) {
    const { connect, clock, random, log } = options;
    this.#pool = new WatchPool(connect);
    this.#deps = { client: this.#pool, clock, log, ...(random && { random }) };
    const { maxSecrets = 1_000, maxPerNamespace = 32 } = options;
    this.#places = new WatchPlaces({ max: maxSecrets, maxPerNamespace });
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

  /**
   * Watches the Secrets of a namespace that a user names, in place of what it named before. With no
   * names it lets all go.
   *
   * @param user - a key of the caller's own, which means nothing here.
   */
  use(user: string, namespace: string, names: readonly string[]): void {
    const before = this.#namedBy.get(user) ?? new Set();
    const keys = new Set(names.filter(isObjectName).map((name) => formatKey({ namespace, name })));
    if (keys.size > 0) this.#namedBy.set(user, keys);
    else this.#namedBy.delete(user);
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

  /** The logins of Secrets of a namespace, in the order of the names. What cannot be read has none. */
  entriesFor(namespace: string, names: readonly string[]): readonly KeyringEntry[] {
    return names.flatMap((name) => {
      const state = this.#stateOf({ namespace, name });
      return typeof state === "string" ? [] : state.entries;
    });
  }

  /** The certificates in a Secret's `ca.crt`, in PEM; `undefined` if there are none, or none yet. */
  caOf(namespace: string, name: string): string | undefined {
    const state = this.#stateOf({ namespace, name });
    if (typeof state === "string" || !("pem" in state.authority)) return undefined;
    return state.authority.pem;
  }

  /**
   * What is wrong with Secrets, for people: each once, whatever it is named for. Nothing of what they
   * hold is in it.
   *
   * @param names - of those that are to hold logins.
   * @param ca - name of the one that is to hold a `ca.crt`, which may be one of the others too.
   */
  problemsOf(
    namespace: string,
    names: readonly string[],
    { ca }: { ca?: string | undefined } = {},
  ): readonly SecretProblem[] {
    const all = new Set([...names, ...(ca === undefined ? [] : [ca])]);
    return [...all].flatMap((name) => {
      const state = this.#stateOf({ namespace, name });
      if (state === "reading") return [];
      if (typeof state === "string") return { ...stateProblems[state], name };
      const problems = [
        ...(names.includes(name) ? state.problems : []),
        ...(name === ca && "problem" in state.authority ? [state.authority.problem] : []),
      ];
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

  /** Lets all Secrets go, and ends the connections. Nothing may be used any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const user of this.#namedBy.keys()) this.use(user, "", []);
    await this.#pool[Symbol.asyncDispose]();
  }

  #stateOf(secret: SecretName): WatchedSecret["state"] | "impossible" | "over" {
    if (!isObjectName(secret.name)) return "impossible";
    const key = formatKey(secret);
    const watched = this.#watched.get(key);
    if (watched) return watched.state;
    // Whoever names it may not have said so yet.
    return this.#uses.has(key) ? "over" : "reading";
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
