import { generators, sourceFolders, unitTestFolders } from "./project.ts";
import { runSteps } from "./steps.ts";

// The files of a folder share a process, which loads what they have in common once. That they need
// nothing of one another shows "npm test", where each has a process of its own.
const runInOneProcess = [
  "node",
  "--test",
  "--test-isolation=none",
  "--test-timeout=60000",
] as const;
const unitTests = unitTestFolders().map((folder) => ({
  name: `unit tests of ${folder}`,
  command: [...runInOneProcess, `${folder}/**/*.test.ts`] as const,
}));

// Everything that can be known without a cluster. The longest steps begin first. "npm test" runs the
// unit tests itself, to count them.
await runSteps([
  ...(process.argv.includes("--without-tests") ? [] : unitTests),
  { name: "types", command: ["tsc", "-p", "tsconfig.json"] },
  { name: "lint", command: ["oxlint", "--type-aware", ...sourceFolders()] },
  { name: "dead code", command: ["knip"] },
  { name: "format", command: ["oxfmt", "--check", "."] },
  { name: "imports", command: ["node", "tools/check-imports.ts"] },
  ...generators().map((path) => ({
    name: path,
    command: ["node", path, "--check"] as const,
  })),
]);
