import { spawn, type ChildProcess } from "node:child_process";
import { text } from "node:stream/consumers";

import { root } from "./generated.ts";
import { compileCache } from "./project.ts";

/** A program that must end with 0. */
export interface Step {
  name: string;
  /** The program and its arguments; `node` is this Node. */
  command: readonly [string, ...string[]];
}

/** Longer than any step needs on a busy machine. */
const stepTimeoutMs = 300_000;

/** Steps that run at the same time, on two cores: many tests wait, for a process or for a limit to pass. */
const concurrency = 4;

const running = new Set<ChildProcess>();

/**
 * Runs steps, four at a time, and prints a line for each and the output of those that fail. Sets the
 * process's exit code. What is running when the process is asked to stop, is asked too.
 */
export async function runSteps(steps: readonly Step[]): Promise<void> {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(signal, () => {
      for (const child of running) child.kill(signal);
      process.kill(process.pid, signal);
    });
  }
  const startMs = performance.now();
  const left = [...steps];
  let failures = 0;
  async function work(): Promise<void> {
    for (let step = left.shift(); step; step = left.shift()) {
      if (!(await runStep(step))) failures++;
    }
  }
  await Promise.all(Array.from({ length: concurrency }, work));
  const verdict = failures === 0 ? "all passed" : `${failures} of ${steps.length} failed`;
  console.log(`${verdict} in ${seconds(startMs)}`);
  if (failures > 0) process.exitCode = 1;
}

async function runStep({ name, command }: Step): Promise<boolean> {
  const startMs = performance.now();
  const [program, ...args] = command;
  const child = spawn(program === "node" ? process.execPath : program, args, {
    cwd: root,
    env: { ...process.env, NODE_COMPILE_CACHE: compileCache },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: stepTimeoutMs,
  });
  running.add(child);
  const ended = new Promise<string | undefined>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("exit", (code, signal) => {
      resolve(code === 0 ? undefined : `ended with ${signal ?? code}`);
    });
  });
  const [stdout, stderr, failure] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    ended,
  ]);
  running.delete(child);
  console.log(`${failure === undefined ? "ok  " : "FAIL"} ${name} ${seconds(startMs)}`);
  if (failure !== undefined) console.log(`${stdout}${stderr}${name} ${failure}\n`);
  return failure === undefined;
}

function seconds(sinceMs: number): string {
  return `${((performance.now() - sinceMs) / 1_000).toFixed(1)} s`;
}
