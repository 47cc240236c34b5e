import { ApiUnreachableError, ResponseTooLargeError, type RequestName } from "./errors.ts";

/** An answer's body, as an HTTP/2 stream gives it. */
export interface Body extends AsyncIterable<Buffer> {
  /** Not 0 if the stream was reset. */
  readonly rstCode?: number | undefined;
}

/**
 * Reads an answer's whole body as text.
 *
 * @throws {ApiUnreachableError} if the connection is lost before its end.
 * @throws {ResponseTooLargeError} as soon as it exceeds `limitBytes`.
 */
export async function readBody(
  body: Body,
  request: RequestName,
  limitBytes: number,
): Promise<string> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of chunksOf(body, request)) {
    sizeBytes += chunk.length;
    if (sizeBytes > limitBytes) throw new ResponseTooLargeError(request, limitBytes);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, sizeBytes).toString();
}

/**
 * Reads an answer's body line by line, until the server ends it.
 *
 * @throws {ApiUnreachableError} if the connection is lost, also in the middle of a line.
 * @throws {ResponseTooLargeError} as soon as one line exceeds `limitBytes`.
 */
export async function* readLines(
  body: Body,
  request: RequestName,
  limitBytes: number,
): AsyncGenerator<string> {
  let parts: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of chunksOf(body, request)) {
    let start = 0;
    for (let end = chunk.indexOf(newline); end >= 0; end = chunk.indexOf(newline, start)) {
      parts.push(chunk.subarray(start, end));
      start = end + 1;
      const line = Buffer.concat(parts).toString();
      parts = [];
      sizeBytes = 0;
      if (line !== "") yield line;
    }
    if (start === chunk.length) continue;
    parts.push(chunk.subarray(start));
    sizeBytes += chunk.length - start;
    if (sizeBytes > limitBytes) throw new ResponseTooLargeError(request, limitBytes);
  }
  if (sizeBytes > 0) throw new ApiUnreachableError(request, "the answer ended early");
}

const newline = 0x0a;

/** Ends only where the server ended the body. Leaving early cancels the stream. */
async function* chunksOf(body: Body, request: RequestName): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of body) yield chunk;
  } catch (cause) {
    throw new ApiUnreachableError(request, "the connection was lost", cause);
  }
  // Node ends the body of a cancelled stream, and of a lost connection, as if it were complete.
  if (body.rstCode !== 0) throw new ApiUnreachableError(request, "the connection was lost");
}
