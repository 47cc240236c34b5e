import assert from "node:assert/strict";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";

import { maxFileBytes } from "./documents.ts";
import { readInput } from "./read-input.ts";

async function* piped(...chunks: string[]): AsyncGenerator<string> {
  yield* chunks;
}

describe("readInput()", () => {
  test("reads files, and what is piped in", async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "coral-input-"));
    const path = join(folder.path, "a.yaml");
    await writeFile(path, "a: ü\n");
    const { files, problems } = await readInput([path, "-"], piped("b: ", "1\n"));

    assert.deepEqual(problems, []);
    assert.deepEqual(files, [
      { name: path, text: "a: ü\n" },
      { name: "stdin", text: "b: 1\n" },
    ]);
  });

  test("says which cannot be read, and reads the others", async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "coral-input-"));
    const large = join(folder.path, "large.yaml");
    await writeFile(large, "x".repeat(maxFileBytes + 1));
    const missing = join(folder.path, "missing.yaml");
    const { files, problems } = await readInput([missing, folder.path, large, "-"], piped("b: 1"));

    assert.deepEqual(
      problems.map(({ file, message }) => [file, message]),
      [
        [missing, "must be a file, and is not there"],
        [folder.path, "must be a file, and is a folder"],
        [large, "must have at most 1048576 bytes"],
      ],
    );
    assert.equal(files.length, 1);
  });
});
