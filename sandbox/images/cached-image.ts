import { createHash } from "node:crypto";
import { access, mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";

import { lockFolder } from "#sandbox/lock.ts";
import { cacheFolder } from "#sandbox/paths.ts";

/**
 * Makes a folder in the cache once. It is kept under a name made from `key`, that is from all that
 * goes into it, and appears by one rename, so an interrupted build leaves nothing that looks done.
 */
export async function cachedFolder(
  name: string,
  key: unknown,
  build: (folder: string) => Promise<void>,
  { signal }: { signal: AbortSignal },
): Promise<string> {
  const hash = createHash("sha256").update(JSON.stringify(key)).digest("hex").slice(0, 16);
  const folder = join(cacheFolder(), "images", `${name}-${hash}`);
  if (await isThere(folder)) return folder;
  const lockIn = join(cacheFolder(), "images", `lock-${name}`);
  await using _lock = await lockFolder(lockIn, { timeoutMs: 10 * 60_000, signal });
  if (await isThere(folder)) return folder;
  const partial = `${folder}.partial`;
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true });
  await build(partial);
  await rename(partial, folder);
  return folder;
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
