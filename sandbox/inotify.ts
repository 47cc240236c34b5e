import { readFile, writeFile } from "node:fs/promises";

/** The kernel's bound on inotify instances of one user, who is root for every sandbox. */
const limitFile = "/proc/sys/fs/inotify/max_user_instances";

/** What a node's kubelet, container runtime and pods open, with some to spare. */
const perNode = 12;

/** What the machine itself and other sandboxes open. */
const others = 128;

/**
 * Makes the kernel allow so many nodes the inotify instances that they need: kubelets above the usual
 * 128 do not start. The bound is the machine's; it is only ever raised, and stays raised.
 *
 * @throws {Error} if it is too low and cannot be raised.
 */
export async function allowInotify(nodes: number): Promise<void> {
  const needed = others + nodes * perNode;
  const allowed = Number(await readFile(limitFile, "utf8"));
  // A few nodes fit into what Linux allows anyway.
  if (nodes <= 8 || allowed >= needed) return;
  try {
    await writeFile(limitFile, String(needed));
  } catch (cause) {
    const problem = `${nodes} nodes need fs.inotify.max_user_instances=${needed}, and it is ${allowed}`;
    throw new Error(problem, { cause });
  }
}
