import { stat } from "node:fs/promises";
import { join } from "node:path";

import { Semaphore } from "#async/semaphore.ts";
import { FileLock } from "./file-lock.ts";
import { versionOf, type LayoutDirectory } from "./layout-directory.ts";
import { LayoutError } from "./layout-error.ts";
import { LayoutIndex, maxIndexBytes } from "./layout-index.ts";

const fileName = "index.json";

/** Changes an index in place, in one of the ways that it has. */
type Change = (index: LayoutIndex) => void;

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
  /** The index by the version of its file: the last one, and the one that is just being written. */
  #cache: ReadonlyMap<string, LayoutIndex> = new Map();

  constructor(directory: LayoutDirectory) {
    this.#directory = directory;
  }

  /** Reads the index, unless it is still the one that was read before. It is not to be changed. */
  async read(): Promise<LayoutIndex> {
    const version = await this.#version();
    const cached = this.#cache.get(version);
    if (cached) return cached;
    const bytes = await this.#directory.readSmall(fileName, maxIndexBytes);
    const index = bytes === undefined ? LayoutIndex.empty() : LayoutIndex.parse(bytes.toString());
    if (!index) {
      throw new LayoutError("BAD_LAYOUT", this.#directory.path, `"${fileName}" is no index`);
    }
    this.#cache = new Map([[version, index]]);
    return index;
  }

  /** Writes an index without entries where there is no file: the specification wants one. */
  async create({ signal }: { signal: AbortSignal }): Promise<void> {
    if ((await this.#version()) === "") await this.update(() => undefined, { signal });
  }

  /**
   * Changes the index as it is now; nobody else does meanwhile. Those who come while it is being written
   * are written together.
   *
   * @returns what the index has become.
   * @throws {LayoutError} if it would become too large to be read; then it stays as it is.
   */
  async update(change: Change, { signal }: { signal: AbortSignal }): Promise<LayoutIndex> {
    const waiter: Waiter = { change };
    this.#waiting.add(waiter);
    try {
      using _turn = await this.#turn.acquire({ signal });
      return waiter.written ?? (await this.#write(waiter, { signal }));
    } finally {
      this.#waiting.delete(waiter);
    }
  }

  /** Makes the changes of all who wait. If it fails, each of them tries for itself. */
  async #write(own: Waiter, { signal }: { signal: AbortSignal }): Promise<LayoutIndex> {
    const lockPath = await this.#directory.ingestPath(`${fileName}.lock`);
    using _lock = await FileLock.take(lockPath, { signal });
    const before = await this.read();
    const version = await this.#version();
    // Where there is no room for all, there may be for this one.
    const next = changed(before, [...this.#waiting]) ?? changed(before, [own]);
    if (!next) {
      throw new LayoutError("BAD_LAYOUT", this.#directory.path, `"${fileName}" has no more room`);
    }
    const { index, json, waiters } = next;
    if (index.isChanged || version === "") {
      await this.#directory.writeSmall(fileName, Buffer.from(json), (written) => {
        this.#cache = new Map([
          [version, before],
          [written, index],
        ]);
      });
    }
    for (const waiter of waiters) {
      waiter.written = index;
      this.#waiting.delete(waiter);
    }
    return index;
  }

  /** Another one for each index that is written: each is a new file. */
  async #version(): Promise<string> {
    const path = join(this.#directory.path, fileName);
    const stats = await stat(path, { bigint: true }).catch(() => undefined);
    return stats ? versionOf(stats) : "";
  }
}

/** Makes some changes together; `undefined` if there is no room for them. */
function changed(
  before: LayoutIndex,
  waiters: readonly Waiter[],
): { index: LayoutIndex; json: string; waiters: readonly Waiter[] } | undefined {
  const index = before.copy();
  for (const { change } of waiters) change(index);
  const json = index.format();
  return json === undefined ? undefined : { index, json, waiters };
}
