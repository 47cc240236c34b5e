import { DatabaseSync } from "node:sqlite";
import { setTimeout } from "node:timers/promises";

/** How often another process is asked whether it is done, in milliseconds. */
const pollMs = 20;

/**
 * Holds a file against other processes and the rest of this one; the kernel frees it when its holder dies.
 *
 * It is SQLite's lock of an empty database, since Node has none of its own: a file that says who holds it
 * would outlive a holder that is killed.
 */
export class FileLock implements Disposable {
  readonly #database: DatabaseSync;

  private constructor(database: DatabaseSync) {
    this.#database = database;
  }

  /**
   * Waits for the lock, and creates the file if need be. Disposing frees the lock and leaves the file.
   *
   * @throws the signal's reason, if aborted while waiting.
   */
  static async take(path: string, { signal }: { signal: AbortSignal }): Promise<FileLock> {
    for (;;) {
      signal.throwIfAborted();
      const lock = FileLock.#tryTake(path);
      if (lock) return lock;
      // Node rejects with an error of its own.
      await setTimeout(pollMs, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
  }

  static #tryTake(path: string): FileLock | undefined {
    const database = new DatabaseSync(path, { timeout: 0 });
    try {
      database.exec("BEGIN EXCLUSIVE");
      return new FileLock(database);
    } catch (error) {
      database.close();
      if (isBusy(error)) return undefined;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }
}

/** What SQLite says of a lock that another one holds, or has just removed (sqlite.org/rescode.html). */
const busyCodes: readonly unknown[] = [
  5, // SQLITE_BUSY
  1_802, // SQLITE_IOERR_FSTAT
];

function isBusy(error: unknown): boolean {
  return error instanceof Error && "errcode" in error && busyCodes.includes(error.errcode);
}
