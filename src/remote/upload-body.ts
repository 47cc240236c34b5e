import { WrongContentError, type Descriptor } from "#oci/content.ts";
import type { StreamDigest } from "./stream-digest.ts";

/**
 * Sent at once: fewer and larger writes cost less. More than a socket buffers, so that undici asks for
 * the next block only when this one has gone.
 */
const blockBytes = 512 * 1024;

/** A source of which the first chunk is there. */
export class OpenedSource implements AsyncIterable<Buffer> {
  readonly #iterator: AsyncIterator<Buffer>;
  #first: IteratorResult<Buffer> | undefined;

  private constructor(iterator: AsyncIterator<Buffer>, first: IteratorResult<Buffer>) {
    this.#iterator = iterator;
    this.#first = first;
  }

  /** Waits for the first chunk. */
  static async open(source: AsyncIterable<Buffer>): Promise<OpenedSource> {
    const iterator = source[Symbol.asyncIterator]();
    return new OpenedSource(iterator, await iterator.next());
  }

  next(): Promise<IteratorResult<Buffer>> {
    const first = this.#first;
    if (!first) return this.#iterator.next();
    this.#first = undefined;
    return Promise.resolve(first);
  }

  async return(): Promise<IteratorResult<Buffer>> {
    await this.#iterator.return?.();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): AsyncIterator<Buffer> {
    return this;
  }
}

export interface UploadBodyOptions {
  readonly source: AsyncIterable<Buffer>;
  readonly descriptor: Descriptor;
  /** Has hashed all before the source's first byte, and nothing else. */
  readonly digest: StreamDigest;
  /** Where in the blob what is sent begins. */
  readonly fromByte: number;
  /** Told where in the blob what was sent ends. */
  readonly onProgress: ((sentBytes: number) => void) | undefined;
}

/**
 * Yields a blob's bytes in blocks on their way to a registry. The last block comes only when all bytes
 * are known to be those of the descriptor. A block is not to be used after the next one was asked for.
 *
 * @throws {WrongContentError} if they are not.
 */
export async function* uploadBody(options: UploadBodyOptions): AsyncGenerator<Buffer, void> {
  const { source, descriptor, digest, fromByte, onProgress } = options;
  const { sizeBytes } = descriptor;
  const wrong = (fault: string): WrongContentError =>
    new WrongContentError(descriptor.digest, "its source", fault);
  const blocks = [0, 1].map(() => Buffer.allocUnsafeSlow(Math.min(blockBytes, sizeBytes)));
  let block = blocks[0] ?? Buffer.alloc(0);
  let filled = 0;
  let sent = fromByte;
  for await (const chunk of source) {
    const chunkStart = digest.offset;
    digest.update(chunk);
    if (digest.offset > sizeBytes) throw wrong(`it has more than ${sizeBytes} bytes`);
    if (digest.offset === sizeBytes && digest.digest() !== descriptor.digest) {
      throw wrong(`its bytes have the digest "${digest.digest()}"`);
    }
    let taken = Math.max(0, Math.min(fromByte - chunkStart, chunk.length));
    while (taken < chunk.length) {
      // The last one waits until the source has said that there is no more.
      if (filled === block.length) {
        yield block;
        onProgress?.((sent += filled));
        block = blocks.find((other) => other !== block) ?? block;
        filled = 0;
      }
      const copied = chunk.copy(block, filled, taken);
      taken += copied;
      filled += copied;
    }
  }
  if (digest.offset < sizeBytes)
    throw wrong(`it ends after ${digest.offset} of ${sizeBytes} bytes`);
  if (digest.digest() !== descriptor.digest) throw wrong(`it has the digest "${digest.digest()}"`);
  if (filled > 0) yield block.subarray(0, filled);
  onProgress?.(sent + filled);
}
