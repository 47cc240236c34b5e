import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { isAlive, readProcessId, thisProcess, type ProcessId } from "./process-id.ts";
import { waitFor } from "./wait.ts";

/**
 * Holds `folder` for this process until the handle is disposed; others on this machine wait.
 * A lock whose holder has died, even by SIGKILL, is taken over.
 *
 * @throws {Error} if another process still holds it after `timeoutMs`.
 */
export async function lockFolder(
  folder: string,
  {
    timeoutMs,
    onWait,
    signal,
  }: { timeoutMs: number; onWait?: (holder: ProcessId) => void; signal: AbortSignal },
): Promise<AsyncDisposable> {
  await mkdir(folder, { recursive: true });
  const lock = join(folder, ".lock");
  const mine = `${lock}.${process.pid}`;
  let told = false;
  await waitFor(
    async () => {
      // Made whole under a name of our own and then renamed: a lock never stands without its holder.
      await rm(mine, { recursive: true, force: true });
      await mkdir(mine);
      await writeFile(join(mine, "holder.json"), JSON.stringify(thisProcess()));
      try {
        await rename(mine, lock); // Fails while the target is a folder that is not empty.
        return true;
      } catch {
        await rm(mine, { recursive: true, force: true });
      }
      const holder = await readProcessId(join(lock, "holder.json"));
      if (holder && isAlive(holder)) {
        if (!told) onWait?.(holder);
        told = true;
      } else {
        await removeStale(lock);
      }
      return undefined;
    },
    { what: `the lock on ${folder}`, timeoutMs, everyMs: 200, signal },
  );
  return { [Symbol.asyncDispose]: () => rm(lock, { recursive: true, force: true }) };
}

/** Takes the dead lock away under another name first, so that of two finders one removes it. */
async function removeStale(lock: string): Promise<void> {
  const grave = `${lock}.stale.${process.pid}`;
  await rm(grave, { recursive: true, force: true });
  await rename(lock, grave);
  const buried = await readProcessId(join(grave, "holder.json"));
  // Another process may have taken the lock between our look and the rename: give it back.
  if (buried && isAlive(buried)) await rename(grave, lock);
  else await rm(grave, { recursive: true, force: true });
}
