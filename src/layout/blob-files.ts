import { createHash, type Hash } from "node:crypto";
import { rm, type FileHandle } from "node:fs/promises";

import { WrongContentError, type ContentOptions, type Descriptor } from "#oci/content.ts";
import { FileLock } from "./file-lock.ts";
import { versionOf, type LayoutDirectory } from "./layout-directory.ts";
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
  /** What is known of blobs that were read or written here, as long as their files are the same. */
  readonly #checked = new Map<string, { readonly version: string; readonly isRight: boolean }>();

  constructor(directory: LayoutDirectory) {
    this.#directory = directory;
  }

  /** How many bytes a blob has; `undefined` if it is not there. */
  async sizeOf(digest: string): Promise<number | undefined> {
    return (await this.#directory.statBlob(digest))?.sizeBytes;
  }

  /** Whether a blob is there, and its bytes are those of its digest. It is read if nobody here knows. */
  async has(digest: string, { signal }: ContentOptions): Promise<boolean> {
    const found = await this.#directory.statBlob(digest);
    if (!found) return false;
    const known = this.#checked.get(digest);
    if (known?.version === found.version) return known.isRight;
    const digesting = createHash(algorithmOf(digest));
    for await (const chunk of this.read(digest, 0, { signal })) digesting.update(chunk);
    const isRight = digesting.digest("hex") === hexOf(digest);
    this.#checked.set(digest, { version: found.version, isRight });
    return isRight;
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

  /**
   * Stores a blob, unless it is there and right; the contract is that of `ContentTarget.writeBlob`. What
   * an earlier attempt left behind, of this process or of one that was killed, is hashed and gone on with.
   */
  async write(descriptor: Descriptor, open: Source, options: WriteOptions): Promise<void> {
    const { digest } = descriptor;
    const { signal } = options;
    if (await this.#isThere(descriptor, { signal })) return;
    const name = digest.replace(":", "-");
    const lockPath = await this.#directory.ingestPath(`${name}.lock`);
    // Whoever waits here finds the blob that the other one stored, or what it left unfinished.
    using _lock = await FileLock.take(lockPath, { signal });
    if (!(await this.#isThere(descriptor, { signal }))) {
      await this.#ingest(
        await this.#directory.ingestPath(`${name}.partial`),
        descriptor,
        open,
        options,
      );
    }
    // Only now: who waits for the lock by its old name finds the blob and needs it no more.
    await rm(lockPath, { force: true });
  }

  async remove(digest: string): Promise<void> {
    await rm(await this.#directory.blobPath(digest), { force: true });
  }

  /** Of another size it is damaged, or the descriptor is wrong; then its source has to say which. */
  async #isThere({ digest, sizeBytes }: Descriptor, options: ContentOptions): Promise<boolean> {
    return (await this.sizeOf(digest)) === sizeBytes && (await this.has(digest, options));
  }

  /** Fills a file, and makes it the blob. */
  async #ingest(
    path: string,
    descriptor: Descriptor,
    open: Source,
    options: WriteOptions,
  ): Promise<void> {
    const { digest } = descriptor;
    const { signal, onProgress } = options;
    const file = await this.#directory.openIngest(path);
    let version: string;
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
      if (!partial.isRight())
        throw new WrongContentError(digest, "its source", "its bytes have another digest");
      await file.sync();
      version = versionOf(await file.stat({ bigint: true }));
    } catch (error) {
      if (error instanceof WrongContentError) await rm(path, { force: true });
      throw error;
    } finally {
      await file.close();
    }
    await this.#directory.publish(path, await this.#directory.blobPath(digest));
    this.#checked.set(digest, { version, isRight: true });
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

function isRetryable(error: unknown): boolean {
  return error instanceof Error && "retryable" in error && error.retryable === true;
}

function algorithmOf(digest: string): string {
  return digest.slice(0, digest.indexOf(":"));
}

function hexOf(digest: string): string {
  return digest.slice(digest.indexOf(":") + 1);
}
