#!/usr/bin/env node
const roles = {
  agent: async () => (await import("./agent.ts")).runAgent(process.env, process.argv.slice(3)),
  controller: async () =>
    (await import("./controller.ts")).runController(process.env, process.argv.slice(3)),
} as const;

const [, , role = ""] = process.argv;
const run = Object.entries(roles).find(([name]) => name === role)?.[1];
if (run) {
  await run();
} else {
  console.error(`coral: "${role}" must be one of: ${Object.keys(roles).join(", ")}`);
  process.exitCode = 2;
}
