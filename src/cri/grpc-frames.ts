import { RpcError } from "./rpc-error.ts";

/** A frame's head: one byte "compressed", four bytes length, big-endian (gRPC over HTTP/2). */
const headBytes = 5;

/** Puts the head before a message, ready to be written to a gRPC stream. */
export function encodeFrame(message: Uint8Array): Uint8Array {
  const frame = Buffer.allocUnsafe(headBytes + message.length);
  frame.writeUInt8(0, 0);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, headBytes);
  return frame;
}

/** Cuts the bytes of a gRPC stream, which come in pieces of any size, into messages. */
export class FrameDecoder {
  readonly #maxMessageBytes: number;
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  /** Bytes the next step needs: a head, or a head with its message. */
  #needed = headBytes;

  constructor({ maxMessageBytes }: { maxMessageBytes: number }) {
    this.#maxMessageBytes = maxMessageBytes;
  }

  /** Whether a message has begun and not ended. */
  get isInsideMessage(): boolean {
    return this.#bytes > 0;
  }

  /**
   * Takes the next bytes and yields the messages that they complete.
   *
   * @throws {RpcError} `RESOURCE_EXHAUSTED` for a message over the limit, as soon as its head is
   * there; `INTERNAL` for a compressed one, which nobody was allowed to send.
   */
  *push(piece: Uint8Array): Generator<Uint8Array> {
    this.#pieces.push(piece);
    this.#bytes += piece.length;
    // Joined only when complete: joining at every piece would copy a long message over and over.
    while (this.#bytes >= this.#needed) {
      const buffer = Buffer.concat(this.#pieces, this.#bytes);
      this.#pieces = [buffer];
      if (this.#needed === headBytes) {
        this.#needed += this.#lengthOf(buffer);
        if (this.#bytes < this.#needed) return;
      }
      const message = buffer.subarray(headBytes, this.#needed);
      const rest = buffer.subarray(this.#needed);
      this.#pieces = rest.length > 0 ? [rest] : [];
      this.#bytes = rest.length;
      this.#needed = headBytes;
      yield message;
    }
  }

  #lengthOf(head: Buffer): number {
    if (head.readUInt8(0) !== 0) throw new RpcError("INTERNAL", "The message is compressed");
    const length = head.readUInt32BE(1);
    if (length > this.#maxMessageBytes) {
      throw new RpcError(
        "RESOURCE_EXHAUSTED",
        `The message has ${length} bytes, more than ${this.#maxMessageBytes}`,
      );
    }
    return length;
  }
}
