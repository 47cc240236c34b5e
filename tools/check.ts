import { generators, sourceFolders, unitTestFiles } from "./project.ts";
import { runSteps } from "./steps.ts";

const unitTests = {
  name: "unit tests",
  // Four at once on two cores: many of them wait, for a process or for a limit to pass.
  command: ["node", "--test", "--test-concurrency=4", "--test-timeout=60000", ...unitTestFiles],
} as const;

// Everything that can be known without a cluster. The longest steps begin first. "npm test" runs the
// unit tests itself, to count them.
await runSteps([
  ...(process.argv.includes("--without-tests") ? [] : [unitTests]),
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
