import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

import { megabytesOf } from "#bench/processes.ts";

/** What a run of a program took. */
export interface RunFigures {
  readonly seconds: number;
  /** Of all its threads, in user and in kernel mode. */
  readonly cpuSeconds: number;
  /** The most resident memory that it ever had. */
  readonly peakMegabytes: number;
}

export interface RunOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
}

/** How often the memory is looked at: the kernel keeps its peak, so only what comes after the last look is missed. */
const lookEveryMs = 20;

/** Longest run. */
const timeoutMs = 5 * 60_000;

/** What a program says is kept up to here, for errors. */
const maxOutput = 64 * 1024;

/**
 * Runs a program to its end, and measures it. Nothing else that this process has started may end
 * meanwhile: its time would count.
 *
 * @throws {Error} if it fails, or takes longer than five minutes.
 */
export async function runMeasured(
  argv: readonly string[],
  { env, signal }: RunOptions,
): Promise<RunFigures> {
  const [file = "", ...args] = argv;
  const cpuBefore = await waitedCpuSeconds();
  const start = performance.now();
  const child = spawn(file, args, {
    env,
    stdio: ["ignore", "pipe", "pipe"],
    signal,
    timeout: timeoutMs,
    killSignal: "SIGKILL",
  });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (piece: Buffer) => {
      said = (said + piece.toString()).slice(-maxOutput);
    });
  }
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.once("error", reject);
  child.once("exit", (code) => {
    const seconds = (performance.now() - start) / 1_000;
    if (code === 0) resolve(seconds);
    else reject(new Error(`"${argv.join(" ")}" ended with ${code}:\n${said.slice(-2_000)}`));
  });
  const [seconds, peakMegabytes] = await Promise.all([promise, peakOf(child.pid)]);
  return { seconds, cpuSeconds: (await waitedCpuSeconds()) - cpuBefore, peakMegabytes };
}

/** Looks at a process until it has ended. */
async function peakOf(pid: number | undefined): Promise<number> {
  let peak = 0;
  for (;;) {
    const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
    if (!/^VmHWM:/m.test(status)) return peak; // It is gone, or about to be.
    peak = Math.max(peak, megabytesOf(status, "VmHWM"));
    await sleep(lookEveryMs);
  }
}

/** Processor time of all processes that this one has started and that have ended. */
async function waitedCpuSeconds(): Promise<number> {
  return waitedCpuSecondsOf(await readFile("/proc/self/stat", "utf8"));
}

/** The kernel counts time for programs in these, on every architecture (USER_HZ, proc(5)). */
const ticksPerSecond = 100;

/** Reads the time of ended children out of `/proc/PID/stat`: its fields `cutime` and `cstime`. */
export function waitedCpuSecondsOf(stat: string): number {
  // The program's name, in brackets, may hold spaces and brackets itself.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[13]) + Number(fields[14])) / ticksPerSecond;
}
