import { BlobPool } from "#mirror/blob-pool.ts";

interface Entry {
  readonly pool: BlobPool;
  users: number;
}

/** A pool for one run, until it is disposed. */
export interface JoinedPool extends Disposable {
  readonly blobs: BlobPool;
}

/**
 * Gives each run a pool of blobs that knows what runs of the same key that are under way brought: repositories
 * of one Mirror take blobs over from one another.
 */
export class SharedPools {
  readonly #entries = new Map<string, Entry>();

  /**
   * @param key - of those that share: one registry and one login.
   * @param path - of the run's target.
   * @param options.signal - the run's.
   */
  join(key: string, path: string, { signal }: { signal: AbortSignal }): JoinedPool {
    const known = this.#entries.get(key);
    const blobs = new BlobPool({ signal, beside: known?.pool });
    const entry = known ?? { pool: blobs, users: 0 };
    this.#entries.set(key, entry);
    entry.users++;
    return {
      blobs,
      [Symbol.dispose]: () => {
        blobs.forget(path);
        if (--entry.users === 0) this.#entries.delete(key);
      },
    };
  }
}
