/** A body has more bytes than are taken. */
export class BodyTooLargeError extends Error {
  override readonly name = "BodyTooLargeError";
  readonly code = "BODY_TOO_LARGE";
  readonly retryable = false;

  constructor(limitBytes: number) {
    super(`the body must have at most ${limitBytes} bytes`);
  }
}

/**
 * Reads a whole body as text, also one that did not say how long it is.
 *
 * @throws {BodyTooLargeError} as soon as it exceeds `limitBytes`; the rest stays unread.
 */
export async function readBody(body: AsyncIterable<Buffer>, limitBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of body) {
    sizeBytes += chunk.length;
    if (sizeBytes > limitBytes) throw new BodyTooLargeError(limitBytes);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, sizeBytes).toString();
}
