import { WrongContentError, type Descriptor } from "#oci/content.ts";
import type { OpenedBody, RegistryCall } from "./registry-call.ts";
import { RegistryError } from "./registry-error.ts";

/** How often in a row a download may break off without a byte more. */
const maxBreaks = 5;

/**
 * Reads a blob from an offset on. Where the connection breaks off, it goes on from there.
 *
 * @param where - whose blob, for errors.
 * @throws {WrongContentError} if there is more or less of it than its descriptor says.
 * @throws {RegistryError} as {@link RegistryCall.open}.
 */
export async function* downloadBlob(
  call: RegistryCall,
  { digest, sizeBytes }: Descriptor,
  { fromByte, where }: { fromByte: number; where: string },
): AsyncGenerator<Buffer, void> {
  const wrong = (fault: string): WrongContentError => new WrongContentError(digest, where, fault);
  const url = call.urlOf(`blobs/${digest}`);
  let offset = fromByte;
  let breaks = 0;
  while (offset < sizeBytes || offset === 0) {
    const opened = await call.open({
      method: "GET",
      url,
      headers: offset > 0 ? { range: `bytes=${offset}-` } : {},
      limitBytes: 0,
      isResumed: offset > fromByte,
    });
    let skipBytes: number;
    try {
      skipBytes = offset - startOf(opened, call, { offset, sizeBytes, wrong });
    } catch (error) {
      opened.close();
      throw error;
    }
    const before = offset;
    try {
      for await (const batch of opened.batches) {
        for (const chunk of batch) {
          const skipped = Math.min(skipBytes, chunk.length);
          skipBytes -= skipped;
          if (offset + chunk.length - skipped > sizeBytes) {
            throw wrong(`it has more than the ${sizeBytes} bytes that its descriptor says`);
          }
          offset += chunk.length - skipped;
          if (skipped < chunk.length) yield skipped === 0 ? chunk : chunk.subarray(skipped);
        }
      }
      if (offset === sizeBytes) return;
      // Without a length, an answer that ends early looks like one that is whole.
      if (offset === before) throw wrong(shortOf(offset, sizeBytes));
    } catch (error) {
      breaks = offset > before ? 1 : breaks + 1;
      const isBroken = error instanceof RegistryError && error.retryable;
      if (!isBroken || breaks > maxBreaks) throw error;
      await call.pause(breaks);
    }
  }
}

/** Finds out where in the blob an answer begins. */
function startOf(
  { answer }: OpenedBody,
  call: RegistryCall,
  wanted: { offset: number; sizeBytes: number; wrong: (fault: string) => WrongContentError },
): number {
  const { offset, sizeBytes, wrong } = wanted;
  const sizeFault = (found: number): WrongContentError =>
    wrong(`it has ${found} bytes, and its descriptor says ${sizeBytes}`);
  if (answer.status !== 206) {
    const length = answer.header("content-length");
    if (length !== undefined && Number(length) !== sizeBytes) throw sizeFault(Number(length));
    return 0;
  }
  const range = answer.header("content-range") ?? "";
  const [, start, total] = /^bytes (\d{1,15})-\d{1,15}\/(\d{1,15}|\*)$/.exec(range) ?? [];
  if (Number(start) !== offset) throw call.badAnswer("sends another range than was asked for");
  if (total !== "*" && Number(total) !== sizeBytes) throw sizeFault(Number(total));
  return offset;
}

function shortOf(offset: number, sizeBytes: number): string {
  return `it ends after ${offset} bytes, and its descriptor says ${sizeBytes}`;
}
