import { existsSync } from "node:fs";
import { readdir, readFile, readlink, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { cgroupsNamed, processesOf, removeNodeCgroup } from "./cgroups.ts";
import { run, runToEnd } from "./command.ts";
import { Daemons } from "./daemon.ts";
import { isSandboxName, Layout, type NodeLayout } from "./layout.ts";
import { namespacesOf } from "./network.ts";
import { sandboxesFolder } from "./paths.ts";
import { identify, isAlive, kill } from "./process-id.ts";
import { readState, stateFile } from "./state.ts";

type Scope = { signal: AbortSignal };

/** What a sandbox holds on the machine. */
export interface Remains {
  processes: number[];
  namespaces: string[];
  cgroups: string[];
  mounts: string[];
  folders: string[];
}

/**
 * Ends a sandbox and removes all that it left on the machine, whatever state it is in. It needs no
 * help from any daemon and asks none: kube-apiserver with open watches takes over 10 s to leave.
 * Repeating it is safe, also after an interruption at any point.
 */
export async function tearDown(layout: Layout, { signal }: Scope): Promise<void> {
  const daemons = new Daemons(layout);
  await Promise.all((await daemons.list()).map((id) => daemons.kill(id, { signal })));
  await endProcesses(() => processesIn(layout), { signal });
  await unmountBelow(layout.folder, { signal });
  for (const namespace of await namespacesOf(layout)) await removeNamespace(namespace, { signal });
  for (const name of await nodeCgroupsOf(layout)) await removeNodeCgroup(name, { signal });
  await removeFolder(layout.folder);
}

/** Ends one node and removes what it left. Its Node object stays. */
export async function tearDownNode(
  layout: Layout,
  node: NodeLayout,
  { signal }: Scope,
): Promise<void> {
  const daemons = new Daemons(layout);
  const ids = (await daemons.list()).filter((id) => id.startsWith(`${node.name}/`));
  await Promise.all(ids.map((id) => daemons.kill(id, { signal })));
  const find = async (): Promise<number[]> => [
    ...(await processesOf(node.cgroup)),
    ...(await processesInNamespace(node.namespace)),
  ];
  await endProcesses(find, { signal });
  await unmountBelow(node.folder, { signal });
  await removeNamespace(node.namespace, { signal });
  await removeNodeCgroup(node.cgroup, { signal });
  await Promise.all(ids.map((id) => daemons.remove(id)));
  await rm(node.folder, { recursive: true, force: true, maxRetries: 5 });
}

/** Looks for everything of a sandbox that is on the machine now. */
export async function remainsOf(layout: Layout): Promise<Remains> {
  return {
    processes: await processesIn(layout),
    namespaces: await namespacesOf(layout),
    cgroups: await nodeCgroupsOf(layout),
    mounts: await mountsBelow(layout.folder),
    folders: existsSync(layout.folder) ? [layout.folder] : [],
  };
}

/**
 * Identifies the sandbox's network namespaces for good: a process that outlives its namespace's name
 * is still found by this.
 */
export async function namespaceIdsOf(layout: Layout): Promise<ReadonlySet<string>> {
  const names = await namespacesOf(layout);
  const found = await Promise.all(names.map((name) => stat(`/run/netns/${name}`)));
  return new Set(found.map(({ ino }) => `net:[${ino}]`));
}

/** Pids of all processes in network namespaces, named or not. */
export async function processesInNamespaces(ids: ReadonlySet<string>): Promise<number[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const inside = await Promise.all(
    pids.map(async (pid) => ids.has(await readlink(`/proc/${pid}/ns/net`).catch(() => ""))),
  );
  return pids.filter((_, position) => inside[position]).map(Number);
}

/** Every process in the sandbox's network namespaces and in its nodes' cgroups. */
async function processesIn(layout: Layout): Promise<number[]> {
  const cgroups = await nodeCgroupsOf(layout);
  const namespaces = await namespacesOf(layout);
  const found = await Promise.all([
    ...cgroups.map(processesOf),
    ...namespaces.map(processesInNamespace),
  ]);
  return [...new Set(found.flat())];
}

async function nodeCgroupsOf(layout: Layout): Promise<string[]> {
  return cgroupsNamed(`${layout.namespace}-n`);
}

/** Two processes may remove the same sandbox: whoever comes second finds it gone. */
async function removeNamespace(namespace: string, { signal }: Scope): Promise<void> {
  const result = await runToEnd(["ip", "netns", "del", namespace], { signal });
  if (result.exitCode !== 0 && existsSync(`/run/netns/${namespace}`)) {
    throw new Error(`Cannot remove network namespace "${namespace}": ${result.stderr.trim()}`);
  }
}

/** The state goes last: while it is there, an interrupted removal is found and finished. */
async function removeFolder(folder: string): Promise<void> {
  const options = { recursive: true, force: true, maxRetries: 5 };
  const names = await readdir(folder).catch(() => []);
  const others = names.filter((name) => name !== stateFile);
  await Promise.all(others.map((name) => rm(join(folder, name), options)));
  await rm(folder, options);
}

async function processesInNamespace(namespace: string): Promise<number[]> {
  const signal = AbortSignal.timeout(10_000);
  const { stdout } = await runToEnd(["ip", "netns", "pids", namespace], { signal });
  return stdout.split("\n").filter(Boolean).map(Number);
}

/** Kills until none is left: a process may start another while it is being ended. */
async function endProcesses(find: () => Promise<number[]>, { signal }: Scope): Promise<void> {
  for (let round = 0; round < 200; round++) {
    const living = (await find()).map(identify).filter((process) => process !== undefined);
    if (living.length === 0) return;
    for (const process of living) kill(process, "SIGKILL");
    await sleep(20, undefined, { signal });
  }
  throw new Error("Some processes of the sandbox do not end");
}

async function unmountBelow(folder: string, { signal }: Scope): Promise<void> {
  for (const target of (await mountsBelow(folder)).toReversed()) {
    await run(["umount", "-l", target], { signal });
  }
}

async function mountsBelow(folder: string): Promise<string[]> {
  const table = await readFile("/proc/self/mountinfo", "utf8");
  const targets = table.split("\n").map((line) => line.split(" ")[4] ?? "");
  return targets.filter((target) => target.startsWith(`${folder}/`));
}

/** Names of the sandboxes that have a folder. */
export async function listSandboxes(): Promise<string[]> {
  const entries = await readdir(sandboxesFolder(), { withFileTypes: true }).catch(() => []);
  const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  return names.filter(isSandboxName);
}

/** Removes the sandboxes whose process has died without removing them. */
export async function removeOrphans({ signal }: Scope): Promise<void> {
  for (const name of await listSandboxes()) {
    const layout = new Layout(name);
    const state = await readState(layout);
    if (state?.owner && !isAlive(state.owner)) await tearDown(layout, { signal });
  }
}
