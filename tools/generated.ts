import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository's root, with a slash at its end. */
export const root = fileURLToPath(new URL("..", import.meta.url));

/**
 * Writes generated files, or with `--check` on the command line only compares them with what is
 * there and fails the process if something differs. Paths are relative to the repository's root.
 */
export async function putGenerated(files: ReadonlyMap<string, string>): Promise<void> {
  const isCheck = process.argv.includes("--check");
  for (const [path, text] of files) {
    const current = await readFile(root + path, "utf8").catch(() => undefined);
    if (current === text) continue;
    if (isCheck) {
      console.error(`${path} is not what its generator writes: run "npm run fix"`);
      process.exitCode = 1;
    } else {
      await mkdir(dirname(root + path), { recursive: true });
      await writeFile(root + path, text);
      console.log(`wrote ${path}`);
    }
  }
}
