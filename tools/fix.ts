import { spawnSync } from "node:child_process";

import { root } from "./generated.ts";
import { generators, sourceFolders } from "./project.ts";

// Writes everything that a program can write. Generators go first: the formatter has the last word.
const commands: [string, ...string[]][] = [
  ...generators().map((path): [string, string] => [process.execPath, path]),
  ["oxlint", "--fix", ...sourceFolders()],
  [process.execPath, "tools/check-imports.ts", "--write"],
  ["oxfmt", "."],
];
for (const [program, ...args] of commands) {
  const { status, error } = spawnSync(program, args, { cwd: root, stdio: "inherit" });
  if (error) throw error;
  if (status !== 0) process.exitCode = 1;
}
