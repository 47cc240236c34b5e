#!/usr/bin/env node
import type { ProcessInput } from "./role.ts";

/** Only the role that runs is loaded. */
const roles: Readonly<Record<string, (input: ProcessInput) => Promise<void>>> = {
  agent: async (input) => (await import("./agent.ts")).runAgent(input),
  controller: async (input) => (await import("./controller.ts")).runController(input),
  explain: async (input) => (await import("./explain.ts")).runExplainCommand(input),
  mirror: async (input) => {
    // The word that follows is a command of a person's; settings of the worker begin with dashes.
    const [word = "--"] = input.argv;
    const isWorker = word.startsWith("--") && word !== "--help";
    if (isWorker) await (await import("./mirror.ts")).runMirror(input);
    else await (await import("./mirror-run.ts")).runMirrorCommand(input);
  },
};

const [, , role = "", ...argv] = process.argv;
const run = Object.hasOwn(roles, role) ? roles[role] : undefined;
if (run) {
  await run({ env: process.env, argv });
} else {
  console.error(`coral: "${role}" must be one of: ${Object.keys(roles).join(", ")}`);
  process.exitCode = 2;
}
