import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";

/** One process for good: the kernel gives the same pid again, but not with the same start time. */
export interface ProcessId {
  pid: number;
  /** Field 22 of `/proc/PID/stat`: clock ticks since boot. */
  startTime: string;
}

/** Looks a running process up; `undefined` if there is none with this pid, or only its zombie. */
export function identify(pid: number): ProcessId | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field is the program's name in brackets and may hold spaces and brackets itself.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [state, startTime] = [fields[0], fields[19]];
    return startTime && state !== "Z" && state !== "X" ? { pid, startTime } : undefined;
  } catch {
    return undefined;
  }
}

export function thisProcess(): ProcessId {
  const id = identify(process.pid);
  if (!id) throw new Error(`Process ${process.pid} is not in /proc`);
  return id;
}

export function isAlive({ pid, startTime }: ProcessId): boolean {
  return identify(pid)?.startTime === startTime;
}

/** Sends a signal to exactly this process; one that has ended is left alone. */
export function kill(process_: ProcessId, signal: NodeJS.Signals): void {
  if (!isAlive(process_)) return;
  try {
    process.kill(process_.pid, signal);
  } catch (error) {
    if (isAlive(process_)) throw error;
  }
}

/** Reads a process that was kept in a file as JSON; `undefined` if the file is not there or not whole. */
export async function readProcessId(file: string): Promise<ProcessId | undefined> {
  try {
    return parseProcessId(JSON.parse(await readFile(file, "utf8")));
  } catch {
    return undefined;
  }
}

function parseProcessId(value: unknown): ProcessId | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  if (!("pid" in value) || !("startTime" in value)) return undefined;
  const { pid, startTime } = value;
  return typeof pid === "number" && typeof startTime === "string" ? { pid, startTime } : undefined;
}
