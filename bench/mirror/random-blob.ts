import { createCipheriv, createHash, hash } from "node:crypto";

import type { Descriptor } from "#oci/content.ts";

const chunkBytes = 1 << 20;

/** Bytes that cannot be compressed. They are made anew each time, so that gigabytes need not be kept. */
export class RandomBlob {
  readonly descriptor: Descriptor;
  readonly #seed: string;

  /** @param seed - equal ones give equal bytes. */
  constructor(seed: string, sizeBytes: number, mediaType: string) {
    this.#seed = seed;
    const sum = createHash("sha256");
    for (const chunk of keystream(seed, sizeBytes)) sum.update(chunk);
    this.descriptor = { mediaType, digest: `sha256:${sum.digest("hex")}`, sizeBytes };
  }

  /** Yields all bytes from an offset on. */
  async *chunks(fromByte: number): AsyncGenerator<Buffer, void> {
    let offset = 0;
    for (const chunk of keystream(this.#seed, this.descriptor.sizeBytes)) {
      const skipped = Math.min(chunk.length, Math.max(0, fromByte - offset));
      if (skipped < chunk.length) yield chunk.subarray(skipped);
      offset += chunk.length;
    }
  }
}

function* keystream(seed: string, sizeBytes: number): Generator<Buffer, void> {
  const key = Buffer.from(hash("sha256", seed), "hex").subarray(0, 16);
  const cipher = createCipheriv("aes-128-ctr", key, Buffer.alloc(16));
  const zeros = Buffer.alloc(Math.min(chunkBytes, sizeBytes));
  for (let left = sizeBytes; left > 0; left -= chunkBytes) {
    yield cipher.update(zeros.subarray(0, Math.min(left, chunkBytes)));
  }
}
