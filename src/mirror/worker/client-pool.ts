import { hash } from "node:crypto";

import { isAbort } from "#async/abort.ts";
import type { Clock } from "#async/clock.ts";

/** How to speak to a registry. */
export interface ClientSetup {
  /** Certificates in PEM that are trusted besides those that Node trusts. */
  readonly ca?: string;
  /** Each `host[:port]` that speaks plain HTTP. */
  readonly plainHttp: readonly string[];
  readonly insecureSkipVerify?: boolean;
}

export interface ClientPoolOptions<C extends AsyncDisposable> {
  readonly make: (setup: ClientSetup) => C;
  readonly clock: Clock;
  /** How long a client that nobody uses is kept. */
  readonly idleMs?: number;
  /** How many clients that nobody uses are kept. */
  readonly maxIdle?: number;
}

interface Entry<C> {
  readonly client: C;
  users: number;
  /** Ends the wait until it is closed. */
  idle: AbortController | undefined;
}

/** A client that is in use until it is disposed. */
export interface Lent<C> extends Disposable {
  readonly client: C;
}

/**
 * Keeps a client with its connections for each way to speak to registries, and closes those that nobody has
 * used for some minutes.
 */
export class ClientPool<C extends AsyncDisposable> implements AsyncDisposable {
  readonly #options: Required<ClientPoolOptions<C>>;
  /** Those that were used last are last. */
  readonly #entries = new Map<string, Entry<C>>();
  readonly #closing = new Set<Promise<void>>();

  constructor(options: ClientPoolOptions<C>) {
    this.#options = { idleMs: 5 * 60_000, maxIdle: 32, ...options };
  }

  /** Lends the client for a set-up, which others may use at the same time. */
  use(setup: ClientSetup): Lent<C> {
    const key = keyOf(setup);
    const entry: Entry<C> = this.#entries.get(key) ?? {
      client: this.#options.make(setup),
      users: 0,
      idle: undefined,
    };
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    entry.users++;
    entry.idle?.abort();
    entry.idle = undefined;
    let isLent = true;
    return {
      client: entry.client,
      [Symbol.dispose]: () => {
        if (isLent && --entry.users === 0) this.#rest(key, entry);
        isLent = false;
      },
    };
  }

  /** Closes all, also those in use. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const [key, entry] of this.#entries) this.#close(key, entry);
    await Promise.all(this.#closing);
  }

  #rest(key: string, entry: Entry<C>): void {
    if (this.#entries.get(key) !== entry) return; // All were closed.
    const { clock, idleMs, maxIdle } = this.#options;
    const idle = new AbortController();
    entry.idle = idle;
    clock.sleep(idleMs, idle).then(
      () => this.#close(key, entry),
      (error: unknown) => {
        if (!isAbort(error, idle.signal)) throw error;
      },
    );
    const resting = [...this.#entries].filter(([, { users }]) => users === 0);
    for (const each of resting.slice(0, Math.max(0, resting.length - maxIdle))) {
      this.#close(...each);
    }
  }

  #close(key: string, entry: Entry<C>): void {
    entry.idle?.abort();
    this.#entries.delete(key);
    const closing = Promise.resolve(entry.client[Symbol.asyncDispose]()).finally(() =>
      this.#closing.delete(closing),
    );
    this.#closing.add(closing);
  }
}

function keyOf({ ca = "", plainHttp, insecureSkipVerify = false }: ClientSetup): string {
  return hash("sha256", JSON.stringify([ca, [...plainHttp].sort(), insecureSkipVerify]));
}
