import { readdir, readFile, rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

import { cgroupsNamed, processesOf, removeNodeCgroup } from "./cgroups.ts";
import { run } from "./command.ts";
import { Daemons } from "./daemon.ts";
import { Layout, type NodeLayout } from "./layout.ts";
import { namespacesOf } from "./network.ts";
import { sandboxesFolder } from "./paths.ts";
import { identify, isAlive, kill } from "./process-id.ts";
import { readState } from "./state.ts";

type Scope = { signal: AbortSignal };

/** What a sandbox holds on the machine. */
export interface Remains {
  processes: number[];
  namespaces: string[];
  cgroups: string[];
  mounts: string[];
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
  for (const namespace of await namespacesOf(layout)) {
    await run(["ip", "netns", "del", namespace], { signal });
  }
  for (const name of await nodeCgroupsOf(layout)) await removeNodeCgroup(name, { signal });
  await rm(layout.folder, { recursive: true, force: true, maxRetries: 5 });
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
  await run(["ip", "netns", "del", node.namespace], { signal });
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
  };
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

async function processesInNamespace(namespace: string): Promise<number[]> {
  const signal = AbortSignal.timeout(10_000);
  const { stdout } = await run(["ip", "netns", "pids", namespace], { signal });
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
  return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
}

/** Removes the sandboxes whose process has died without removing them. */
export async function removeOrphans({ signal }: Scope): Promise<void> {
  for (const name of await listSandboxes()) {
    const layout = new Layout(name);
    const state = await readState(layout);
    if (state?.owner && !isAlive(state.owner)) await tearDown(layout, { signal });
  }
}
