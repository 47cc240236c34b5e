import { createHash, hash, type Hash } from "node:crypto";
import { rm, type FileHandle } from "node:fs/promises";

import { WrongContentError, type ContentOptions, type Descriptor } from "#oci/content.ts";
import { FileLock } from "./file-lock.ts";
import type { LayoutDirectory } from "./layout-directory.ts";
import { LayoutError } from "./layout-error.ts";

/** Two of these are read in turn, so that the disk works while the reader does (measured for HTTP). */
const readBytes = 1_024 * 1_024;

/** How often a source that breaks off is opened again, as long as it gets on in between. */
const maxReopens = 8;

type Source = (fromByte: number) => AsyncIterable<Buffer>;

interface WriteOptions extends ContentOptions {
  readonly onProgress?: (sentBytes: number) => void;
}

/** The blobs of a layout, each a file that is named by its digest. */
export class BlobFiles {
  readonly #directory: LayoutDirectory;

  constructor(directory: LayoutDirectory) {
    this.#directory = directory;
  }

  async has(digest: string): Promise<boolean> {
    return (await this.sizeOf(digest)) !== undefined;
  }

  /** How many bytes a blob has; `undefined` if it is not there. */
  async sizeOf(digest: string): Promise<number | undefined> {
    const file = await this.#directory.openBlob(digest);
    if (!file) return undefined;
    try {
      return (await file.stat()).size;
    } finally {
      await file.close();
    }
  }

  /** Reads a blob from an offset. Chunks are used again, as the contract of `blob()` says. */
  async *read(
    digest: string,
    fromByte: number,
    { signal }: ContentOptions,
  ): AsyncGenerator<Buffer> {
    signal.throwIfAborted();
    const file = await this.#directory.openBlob(digest);
    if (!file) throw new LayoutError("NOT_FOUND", this.#directory.path, `it has no "${digest}"`);
    try {
      const { size } = await file.stat();
      yield* readAhead(file, { fromByte, size, signal });
    } finally {
      await file.close();
    }
  }

  /** Stores what fits into memory, and checks it before. Does nothing if it is there and whole. */
  async writeWhole(digest: string, bytes: Buffer, options: ContentOptions): Promise<void> {
    const descriptor = { mediaType: "", digest, sizeBytes: bytes.length };
    const there = await this.#directory.openBlob(digest);
    if (there) {
      const found = await readAndClose(there);
      if (hash(algorithmOf(digest), found) === hexOf(digest)) return;
      await rm(await this.#directory.blobPath(digest), { force: true });
    }
    await this.write(descriptor, () => once(bytes), options);
  }

  /**
   * Stores a blob; the contract is that of `ContentTarget.writeBlob`. What an earlier attempt left
   * behind, of this process or of one that was killed, is hashed and gone on with.
   */
  async write(descriptor: Descriptor, open: Source, options: WriteOptions): Promise<void> {
    const { digest } = descriptor;
    const { signal, onProgress } = options;
    if (await this.has(digest)) return;
    const name = digest.replace(":", "-");
    const lockPath = await this.#directory.ingestPath(`${name}.lock`);
    // Whoever waits here finds the blob that the other one stored, or what it left unfinished.
    using _lock = await FileLock.take(lockPath, { signal });
    if (await this.has(digest)) return;

    const path = await this.#directory.ingestPath(`${name}.partial`);
    const file = await this.#directory.openIngest(path);
    let isWhole = false;
    try {
      const partial = new PartialBlob(file, descriptor);
      const resumedBytes = await partial.resume({ signal });
      onProgress?.(partial.offset);
      await fill(partial, open, options);
      if (!partial.isRight() && resumedBytes > 0) {
        // What was left behind may be what is wrong: a power failure can do that.
        await partial.restart();
        await fill(partial, open, options);
      }
      isWhole = partial.isRight();
      if (!isWhole)
        throw new WrongContentError(digest, "its source", "its bytes have another digest");
      await file.sync();
    } catch (error) {
      if (error instanceof WrongContentError) await rm(path, { force: true });
      throw error;
    } finally {
      await file.close();
    }
    await this.#directory.publish(path, await this.#directory.blobPath(digest));
    // Only now: who waits for the lock by its old name finds the blob and needs it no more.
    await rm(lockPath, { force: true });
  }

  async remove(digest: string): Promise<void> {
    await rm(await this.#directory.blobPath(digest), { force: true });
  }
}

/** Content on its way into a file, hashed as far as it got. */
class PartialBlob {
  readonly descriptor: Descriptor;
  readonly #file: FileHandle;
  #hash: Hash;
  #offset = 0;

  constructor(file: FileHandle, descriptor: Descriptor) {
    this.#file = file;
    this.descriptor = descriptor;
    this.#hash = createHash(algorithmOf(descriptor.digest));
  }

  get offset(): number {
    return this.#offset;
  }

  get isFull(): boolean {
    return this.#offset === this.descriptor.sizeBytes;
  }

  /** Hashes what is in the file, and says how much that is. */
  async resume({ signal }: ContentOptions): Promise<number> {
    const { size } = await this.#file.stat();
    if (size > this.descriptor.sizeBytes) await this.#file.truncate(0);
    else {
      for await (const chunk of readAhead(this.#file, { fromByte: 0, size, signal })) {
        this.#hash.update(chunk);
        this.#offset += chunk.length;
      }
    }
    return this.#offset;
  }

  async restart(): Promise<void> {
    await this.#file.truncate(0);
    this.#hash = createHash(algorithmOf(this.descriptor.digest));
    this.#offset = 0;
  }

  async append(chunk: Buffer): Promise<void> {
    const { digest, sizeBytes } = this.descriptor;
    if (this.#offset + chunk.length > sizeBytes) {
      throw new WrongContentError(digest, "its source", `it has more than ${sizeBytes} bytes`);
    }
    this.#hash.update(chunk);
    for (let done = 0; done < chunk.length;) {
      const rest = chunk.length - done;
      const { bytesWritten } = await this.#file.write(chunk, done, rest, this.#offset + done);
      done += bytesWritten;
    }
    this.#offset += chunk.length;
  }

  isRight(): boolean {
    return this.isFull && this.#hash.copy().digest("hex") === hexOf(this.descriptor.digest);
  }
}

/** Reads the source until the content is full, opening it again where it broke off. */
async function fill(
  partial: PartialBlob,
  open: Source,
  { signal, onProgress }: WriteOptions,
): Promise<void> {
  const { digest, sizeBytes } = partial.descriptor;
  for (let reopens = 0; !partial.isFull; reopens++) {
    const startedAt = partial.offset;
    try {
      for await (const chunk of open(startedAt)) {
        signal.throwIfAborted();
        await partial.append(chunk);
        onProgress?.(partial.offset);
      }
    } catch (error) {
      signal.throwIfAborted();
      const gotOn = partial.offset > startedAt;
      if (!isRetryable(error) || !gotOn || reopens >= maxReopens) throw error;
      continue;
    }
    signal.throwIfAborted();
    if (partial.isFull || (partial.offset > startedAt && reopens < maxReopens)) continue;
    const fault = `it ends after ${partial.offset} of ${sizeBytes} bytes`;
    throw new WrongContentError(digest, "its source", fault);
  }
}

interface ReadRange extends ContentOptions {
  readonly fromByte: number;
  /** How large the file is. */
  readonly size: number;
}

/** Reads a file, one part ahead of the reader. */
async function* readAhead(
  file: FileHandle,
  { fromByte, size, signal }: ReadRange,
): AsyncGenerator<Buffer> {
  if (fromByte >= size) return;
  const length = Math.min(readBytes, size - fromByte);
  let [current, next] = [Buffer.allocUnsafe(length), Buffer.allocUnsafe(length)];
  let position = fromByte;
  let reading = file.read(current, 0, length, position);
  try {
    for (;;) {
      const { bytesRead } = await reading;
      signal.throwIfAborted();
      if (bytesRead === 0) return;
      const chunk = current.subarray(0, bytesRead);
      position += bytesRead;
      [current, next] = [next, current];
      reading = file.read(current, 0, length, position);
      yield chunk;
    }
  } finally {
    await reading.catch(() => undefined); // A reader that left early does not wait for it, but the file does.
  }
}

async function readAndClose(file: FileHandle): Promise<Buffer> {
  try {
    return await file.readFile();
  } finally {
    await file.close();
  }
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

function isRetryable(error: unknown): boolean {
  return error instanceof Error && "retryable" in error && error.retryable === true;
}

function algorithmOf(digest: string): string {
  return digest.slice(0, digest.indexOf(":"));
}

function hexOf(digest: string): string {
  return digest.slice(digest.indexOf(":") + 1);
}
