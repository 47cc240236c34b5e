import { createHash } from "node:crypto";

import {
  WrongContentError,
  type ContentOptions,
  type ContentSource,
  type Descriptor,
} from "#oci/content.ts";

/** Configurations of images have a few kilobytes. */
const maxBytes = 4 * 1_024 * 1_024;

/**
 * Reads a blob that is known to be small, such as a configuration.
 *
 * @throws {WrongContentError} if it has more than 4 MiB, or its bytes are not those of the descriptor.
 */
export async function readSmallBlob(
  source: ContentSource,
  descriptor: Descriptor,
  { signal }: ContentOptions,
): Promise<Buffer> {
  const { digest, sizeBytes } = descriptor;
  if (sizeBytes > maxBytes) {
    throw new WrongContentError(digest, source.name, `it has more than ${maxBytes} bytes`);
  }
  const [algorithm = "", hex] = digest.split(":");
  const hash = createHash(algorithm);
  const bytes = Buffer.alloc(sizeBytes);
  let offset = 0;
  for await (const chunk of source.blob(descriptor, { signal })) {
    if (offset + chunk.length > sizeBytes) break;
    offset += chunk.copy(bytes, offset);
    hash.update(chunk);
  }
  if (offset === sizeBytes && hash.digest("hex") === hex) return bytes;
  throw new WrongContentError(digest, source.name, "its bytes have another digest or size");
}
