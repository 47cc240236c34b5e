import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { waitFor } from "./wait.ts";

type Scope = { signal: AbortSignal };

const root = "/sys/fs/cgroup";

/** Hierarchies of cgroup v1 that the kubelet and runc use. */
const controllers = [
  "cpu",
  "cpuacct",
  "cpuset",
  "memory",
  "devices",
  "freezer",
  "blkio",
  "pids",
  "systemd",
  "hugetlb",
  "unified", // Beside the others where the machine has both versions.
] as const;

/** Whether the machine has the unified hierarchy alone (cgroup v2). */
export const isUnified = existsSync(join(root, "cgroup.controllers"));

/**
 * Makes a node's root cgroup, which the kubelet wants to find (`cgroupRoot`), and below it the
 * group `daemons` for containerd, the kubelet and kube-proxy.
 */
export async function createNodeCgroup(name: string): Promise<void> {
  for (const hierarchy of hierarchies()) {
    await mkdir(join(hierarchy, name, "daemons"), { recursive: true });
  }
  if (isUnified) {
    const available = await readFile(join(root, "cgroup.controllers"), "utf8");
    const enable = available
      .trim()
      .split(" ")
      .map((controller) => `+${controller}`)
      .join(" ");
    await writeFile(join(root, "cgroup.subtree_control"), enable);
    await writeFile(join(root, name, "cgroup.subtree_control"), enable);
  } else if (existsSync(join(root, "cpuset"))) {
    // A new cpuset is empty, and no process may enter an empty one.
    for (const file of ["cpuset.cpus", "cpuset.mems"]) {
      const all = await readFile(join(root, "cpuset", file), "utf8");
      await writeFile(join(root, "cpuset", name, file), all);
      await writeFile(join(root, "cpuset", name, "daemons", file), all);
    }
  }
}

/** Files into which a daemon of the node writes its pid before it becomes the daemon. */
export function daemonProcsFiles(name: string): string[] {
  const chosen = isUnified ? [root] : ["pids", "freezer"].map((part) => join(root, part));
  return chosen
    .filter((folder) => existsSync(folder))
    .map((folder) => join(folder, name, "daemons/cgroup.procs"));
}

/** Pids of all processes in a node's cgroup and below, pods included. */
export async function processesOf(name: string): Promise<number[]> {
  const pids = new Set<number>();
  for (const hierarchy of hierarchies()) {
    for (const folder of await foldersBelow(join(hierarchy, name))) {
      const procs = await readFile(join(folder, "cgroup.procs"), "utf8").catch(() => "");
      for (const line of procs.split("\n")) if (line) pids.add(Number(line));
    }
  }
  return [...pids];
}

/**
 * Removes a node's cgroups; all its processes have been killed. The kernel calls a cgroup busy until
 * it has buried the last of them. Folders that are not there are no error.
 */
export async function removeNodeCgroup(name: string, { signal }: Scope): Promise<void> {
  const remove = async (): Promise<true> => {
    for (const hierarchy of hierarchies()) {
      for (const folder of await foldersBelow(join(hierarchy, name))) await rmdir(folder);
    }
    return true;
  };
  await waitFor(remove, { what: `the cgroups of ${name} to be empty`, everyMs: 20, signal });
}

/** Names of cgroups that begin with `prefix`, in any hierarchy. */
export async function cgroupsNamed(prefix: string): Promise<string[]> {
  const found = new Set<string>();
  for (const hierarchy of hierarchies()) {
    for (const name of await readdir(hierarchy)) if (name.startsWith(prefix)) found.add(name);
  }
  return [...found];
}

function hierarchies(): string[] {
  if (isUnified) return [root];
  return controllers.map((name) => join(root, name)).filter((folder) => existsSync(folder));
}

/** The folder and all below it, deepest first; nothing if it is not there. */
async function foldersBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => undefined);
  if (!entries) return [];
  const inner = entries.filter((entry) => entry.isDirectory());
  const below = await Promise.all(inner.map((entry) => foldersBelow(join(folder, entry.name))));
  return [...below.flat(), folder];
}
