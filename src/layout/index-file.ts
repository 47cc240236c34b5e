import { stat } from "node:fs/promises";
import { join } from "node:path";

import { Semaphore } from "#async/semaphore.ts";
import { FileLock } from "./file-lock.ts";
import type { LayoutDirectory } from "./layout-directory.ts";
import { LayoutError } from "./layout-error.ts";
import {
  emptyIndex,
  formatLayoutIndex,
  parseLayoutIndex,
  type LayoutIndex,
} from "./layout-index.ts";

/** Room for some ten thousand names; it is read as a whole. */
const maxBytes = 8 * 1_024 * 1_024;

const fileName = "index.json";

type Change = (index: LayoutIndex) => LayoutIndex;

interface Waiter {
  readonly change: Change;
  /** What the index has become with its change. */
  written?: LayoutIndex;
}

/** The file that names what a layout has. It may be changed by several processes. */
export class IndexFile {
  readonly #directory: LayoutDirectory;
  /** Before the lock: waiting there costs time. */
  readonly #turn = new Semaphore(1);
  readonly #waiting = new Set<Waiter>();
  #cache: { readonly version: string; readonly index: LayoutIndex } | undefined;

  constructor(directory: LayoutDirectory) {
    this.#directory = directory;
  }

  /** Reads the index, unless it is still the one that was read before. */
  async read(): Promise<LayoutIndex> {
    const version = await this.#version();
    if (this.#cache?.version === version) return this.#cache.index;
    const bytes = await this.#directory.readSmall(fileName, maxBytes);
    const index = bytes === undefined ? emptyIndex : parseLayoutIndex(bytes.toString());
    if (!index) {
      throw new LayoutError("BAD_LAYOUT", this.#directory.path, `"${fileName}" is no index`);
    }
    this.#cache = { version, index };
    return index;
  }

  /**
   * Changes the index as it is now; nobody else does meanwhile. Those who come while it is being written
   * are written together.
   *
   * @returns what the index has become.
   */
  async update(change: Change, { signal }: { signal: AbortSignal }): Promise<LayoutIndex> {
    const waiter: Waiter = { change };
    this.#waiting.add(waiter);
    try {
      using _turn = await this.#turn.acquire({ signal });
      return waiter.written ?? (await this.#write({ signal }));
    } finally {
      this.#waiting.delete(waiter);
    }
  }

  /** Makes the changes of all who wait. If it fails, each of them tries for itself. */
  async #write({ signal }: { signal: AbortSignal }): Promise<LayoutIndex> {
    const lockPath = await this.#directory.ingestPath(`${fileName}.lock`);
    using _lock = await FileLock.take(lockPath, { signal });
    const waiting = [...this.#waiting];
    const before = await this.read();
    const after = waiting.reduce((index, { change }) => change(index), before);
    if (after !== before) await this.#replace(after);
    for (const waiter of waiting) {
      waiter.written = after;
      this.#waiting.delete(waiter);
    }
    return after;
  }

  async #replace(index: LayoutIndex): Promise<void> {
    const bytes = Buffer.from(formatLayoutIndex(index));
    if (bytes.length > maxBytes) {
      throw new LayoutError("BAD_LAYOUT", this.#directory.path, `"${fileName}" has no more room`);
    }
    await this.#directory.writeSmall(fileName, bytes);
    this.#cache = { version: await this.#version(), index };
  }

  /** Another one for each index that is written: each is a new file. */
  async #version(): Promise<string> {
    const path = join(this.#directory.path, fileName);
    const stats = await stat(path, { bigint: true }).catch(() => undefined);
    return stats ? `${stats.ino} ${stats.mtimeNs} ${stats.size}` : "";
  }
}
