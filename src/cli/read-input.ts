import { createReadStream } from "node:fs";

import { maxFileBytes } from "./documents.ts";
import type { InputFile, LocatedProblem } from "./mirror-file.ts";

/** Reads files of Mirrors; `-` is what is piped in. What cannot be read becomes a problem. */
export async function readInput(
  names: readonly string[],
  stdin: AsyncIterable<Buffer | string>,
): Promise<{ files: InputFile[]; problems: LocatedProblem[] }> {
  const files: InputFile[] = [];
  const problems: LocatedProblem[] = [];
  for (const name of names) {
    const shown = name === "-" ? "stdin" : name;
    try {
      const text = await readAll(name === "-" ? stdin : createReadStream(name));
      if (text !== undefined) files.push({ name: shown, text });
      else problems.push(fault(shown, `must have at most ${maxFileBytes} bytes`));
    } catch (error) {
      problems.push(fault(shown, faultOf(error)));
    }
  }
  return { files, problems };
}

function fault(file: string, message: string): LocatedProblem {
  return { file, mirror: "", path: "", value: "", message };
}

function faultOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ENOENT") return "must be a file, and is not there";
  if (code === "EISDIR") return "must be a file, and is a folder";
  return `must be a file that can be read (${String(code)})`;
}

/** Reads at most so many bytes; `undefined` if there are more. It goes by no size: pipes have none. */
async function readAll(stream: AsyncIterable<Buffer | string>): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream) {
    const bytes = Buffer.from(chunk);
    length += bytes.length;
    if (length > maxFileBytes) return undefined;
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString();
}
