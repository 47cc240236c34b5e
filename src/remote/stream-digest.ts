import { createHash, type Hash } from "node:crypto";

/** How far apart the places are to which hashing can go back. */
const stepBytes = 8 << 20;

/** What a server has taken is seldom further behind what was sent than this many steps. */
const maxMarks = 16;

/** Hashes a stream that may be read again from somewhere before. */
export class StreamDigest {
  readonly #algorithm: string;
  #hash: Hash;
  #offset = 0;
  /** Where it can go back to, in order; always to the beginning. */
  #marks: { readonly offset: number; readonly hash: Hash }[];

  /** @param digest - tells the algorithm; only that counts. */
  constructor(digest: string) {
    this.#algorithm = digest.slice(0, digest.indexOf(":"));
    this.#hash = createHash(this.#algorithm);
    this.#marks = [{ offset: 0, hash: this.#hash.copy() }];
  }

  /** How many bytes have been hashed. */
  get offset(): number {
    return this.#offset;
  }

  update(chunk: Buffer): void {
    this.#hash.update(chunk);
    this.#offset += chunk.length;
    if (this.#offset - (this.#marks.at(-1)?.offset ?? 0) < stepBytes) return;
    this.#marks.push({ offset: this.#offset, hash: this.#hash.copy() });
    if (this.#marks.length > maxMarks) this.#marks.splice(1, 1);
  }

  /** Goes back to the last possible place at or before an offset, from where all is to be hashed again. */
  rewind(offset: number): void {
    this.#marks = this.#marks.filter((mark) => mark.offset <= offset);
    const last = this.#marks.at(-1);
    this.#hash = last?.hash.copy() ?? createHash(this.#algorithm);
    this.#offset = last?.offset ?? 0;
  }

  /** The digest of all that was hashed. */
  digest(): string {
    return `${this.#algorithm}:${this.#hash.copy().digest("hex")}`;
  }
}
