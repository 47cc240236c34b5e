import { existsSync, globSync } from "node:fs";
import { join } from "node:path";

import { root } from "./generated.ts";

/** The folders with code that are there. */
export function sourceFolders(): string[] {
  return ["src", "sandbox", "test", "bench", "tools"].filter((name) => existsSync(root + name));
}

/** The programs that write generated files, and with `--check` compare them. */
export function generators(): string[] {
  return globSync("tools/generate-*.ts", { cwd: root }).sort();
}

/** Where Node keeps what it compiled, for the checks and tests: they start hundreds of processes. */
export const compileCache = join(root, "node_modules/.cache/node");

/** Tests that need nothing but Node. */
export const unitTestFiles = ["{src,bench,tools,sandbox}/**/*.test.ts"] as const;

/** The folders of unit tests, those with the most files first: `src/mirror`, …, `sandbox`. */
export function unitTestFolders(): string[] {
  const files = unitTestFiles.flatMap((pattern) => globSync(pattern, { cwd: root }));
  const folders = Map.groupBy(files, (file) => /^src\/[^/]+|^[^/]+/.exec(file)?.[0] ?? file);
  return [...folders]
    .sort(([, some], [, others]) => others.length - some.length)
    .map(([folder]) => folder);
}

/** One suite for each protocol, on the fake and on the real servers in a cluster of its own. */
export const conformanceTestFiles = ["test/conformance/**/*.test.ts"] as const;

/** Tests of whole processes on a real cluster. */
export const endToEndTestFiles = ["test/e2e/**/*.test.ts"] as const;
