import { randomUUID } from "node:crypto";
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
  const mine = `${lock}.${randomUUID()}`;
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
      } else if (holder) {
        // Named after its dead holder: whoever comes second finds the name taken.
        await rename(lock, `${lock}.stale.${holder.pid}-${holder.startTime}`);
      }
      return undefined;
    },
    { what: `the lock on ${folder}`, timeoutMs, everyMs: 200, signal },
  );
  return {
    async [Symbol.asyncDispose]() {
      await rename(lock, mine); // At once: a lock never stands without its holder.
      await rm(mine, { recursive: true, force: true });
    },
  };
}
