import { homedir } from "node:os";
import { join } from "node:path";

/** The repository's root folder, whichever folder a command was started in. */
export const repositoryRoot = join(import.meta.dirname, "..");

/**
 * Folder of everything that is built once and kept: tool sets, Go's caches and base images.
 * `CORAL_CACHE`, else `coral` in the user's cache folder. It grows to several gigabytes.
 */
export function cacheFolder(): string {
  const userCache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  return process.env["CORAL_CACHE"] ?? join(userCache, "coral");
}

/**
 * Folder with one folder per running sandbox. On disk and not in memory, since containerd keeps
 * images there; short, since Unix socket paths end at 107 bytes.
 */
export function sandboxesFolder(): string {
  return process.env["CORAL_SANDBOX_DIR"] ?? "/var/lib/coral-sandbox";
}
