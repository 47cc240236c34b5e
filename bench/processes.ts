import { readFile } from "node:fs/promises";

import type { SandboxNode } from "#sandbox/sandbox-node.ts";

/** What a process holds, and has used since its start. */
export interface ProcessFigures {
  residentMegabytes: number;
  /** The most that it ever held. */
  peakResidentMegabytes: number;
  /** Its share of what it holds: a page that several processes map counts in parts. */
  proportionalMegabytes: number;
  /** Of all its threads, in user and in kernel mode. */
  cpuSeconds: number;
}

/** The kernel counts time for programs in these, on every architecture (USER_HZ, proc(5)). */
const ticksPerSecond = 100;

/**
 * Reads what a process uses.
 *
 * @throws {Error} if there is no such process.
 */
export async function readProcess(pid: number): Promise<ProcessFigures> {
  const read = (name: string): Promise<string> => readFile(`/proc/${pid}/${name}`, "utf8");
  const [status, rollup, stat] = await Promise.all([
    read("status"),
    read("smaps_rollup"),
    read("stat"),
  ]);
  return {
    residentMegabytes: megabytesOf(status, "VmRSS"),
    peakResidentMegabytes: megabytesOf(status, "VmHWM"),
    proportionalMegabytes: megabytesOf(rollup, "Pss"),
    cpuSeconds: cpuSecondsOf(stat),
  };
}

/** Reads a line such as `VmRSS:   12345 kB` of a file in /proc, in millions of bytes. */
export function megabytesOf(text: string, field: string): number {
  const kibibytes = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(text)?.[1];
  if (kibibytes === undefined) throw new Error(`There must be a field "${field}"`);
  return (Number(kibibytes) * 1024) / 1e6;
}

/** Reads the processor time out of `/proc/PID/stat`. */
export function cpuSecondsOf(stat: string): number {
  // The program's name, in brackets, may hold spaces and brackets itself.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

/** Pids, as the machine knows them, of the containers of this name that run on a node. */
export async function containerPids(
  node: SandboxNode,
  container: string,
  { signal }: { signal: AbortSignal },
): Promise<number[]> {
  const { stdout } = await node.crictl(["ps", "--name", `^${container}$`, "-q"], { signal });
  const inspect = ["inspect", "-o", "go-template", "--template", "{{.info.pid}}"];
  const pids = stdout.trim().split("\n").filter(Boolean);
  return Promise.all(
    pids.map(async (id) => Number((await node.crictl([...inspect, id], { signal })).stdout.trim())),
  );
}
