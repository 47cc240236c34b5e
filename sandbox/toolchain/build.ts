import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { access, mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";

import { cacheFolder } from "#sandbox/paths.ts";
import { run } from "#sandbox/command.ts";
import { lockFolder } from "#sandbox/lock.ts";
import { toolSets, type ToolSet } from "./tool-sets.ts";

export interface BuildOptions {
  /** Gets a line for each thing a person who waits wants to know. */
  report: (line: string) => void;
  /** Names of the optional sets that are wanted too. */
  optional?: readonly string[];
  signal: AbortSignal;
}

/** How often a long build says that it is still at it. */
const reportEveryMs = 30_000;

/** Where the sandbox's programs are. */
export class Programs {
  readonly #folders: ReadonlyMap<string, string>;

  constructor(folders: ReadonlyMap<string, string>) {
    this.#folders = folders;
  }

  /** Value for `PATH`: the programs first, then the machine's own. */
  get path(): string {
    return [...new Set(this.#folders.values()), process.env["PATH"] ?? ""].join(":");
  }

  /** Absolute path of one program. */
  file(program: string): string {
    return join(this.folderOf(program), program);
  }

  folderOf(program: string): string {
    const folder = this.#folders.get(program);
    if (!folder) throw new Error(`No tool set has a program "${program}"`);
    return folder;
  }
}

/**
 * Makes sure that every program of the sandbox is there, building what is missing. Programs of
 * optional sets have a place, but are there only if somebody asked for them once.
 *
 * A set is kept under a name made from all that goes into it, so a changed `go.sum` builds anew
 * and an old checkout still finds its own. It appears by one rename: an interrupted build leaves
 * nothing that looks finished. `CORAL_SANDBOX_BIN` names a folder whose programs are used instead.
 *
 * @throws {Error} with the compiler's last lines if a set does not build.
 */
export async function ensurePrograms({
  report,
  optional = [],
  signal,
}: BuildOptions): Promise<Programs> {
  const own = process.env["CORAL_SANDBOX_BIN"];
  const folders = new Map<string, string>();
  const missing: { set: ToolSet; folder: string }[] = [];
  let goVersion: string | undefined;
  for (const set of toolSets) {
    const names: string[] = [];
    for (const { name } of binariesOf(set)) {
      if (own !== undefined && (await haveAll(own, [name]))) folders.set(name, own);
      else names.push(name);
    }
    if (names.length === 0) continue;
    goVersion ??= await findGoVersion(signal);
    const folder = join(toolsFolder(), `${set.name}-${await keyOf(set, goVersion)}`);
    for (const name of names) folders.set(name, folder);
    const isWanted = !set.isOptional || optional.includes(set.name);
    if (isWanted && !(await haveAll(folder, names))) missing.push({ set, folder });
  }
  if (missing.length > 0) await buildAll(missing, { report, signal });
  return new Programs(folders);
}

async function buildAll(
  missing: readonly { set: ToolSet; folder: string }[],
  { report, signal }: BuildOptions,
): Promise<void> {
  await using _lock = await lockFolder(toolsFolder(), {
    timeoutMs: 60 * 60_000,
    onWait: ({ pid }) =>
      report(`process ${pid} is building the sandbox's programs; waiting for it`),
    signal,
  });
  let leftSeconds = missing.reduce((sum, { set }) => sum + set.estimateSeconds, 0);
  report(
    `building ${missing.length} tool sets once, about ${minutes(leftSeconds)} on two cores; ` +
      `they and Go's caches take some gigabytes in ${cacheFolder()} ` +
      `("npm run sandbox -- clean" frees them)`,
  );
  for (const [index, { set, folder }] of missing.entries()) {
    const label = `[${index + 1}/${missing.length}] ${set.name}`;
    // Whoever held the lock before us may have built it.
    if (
      !(await haveAll(
        folder,
        binariesOf(set).map(({ name }) => name),
      ))
    ) {
      report(`${label}: about ${minutes(set.estimateSeconds)}, ${minutes(leftSeconds)} in all`);
      const start = performance.now();
      const seconds = (): number => Math.round((performance.now() - start) / 1000);
      const timer = setInterval(() => report(`${label}: ${seconds()} s`), reportEveryMs);
      try {
        await buildSet(set, folder, signal);
      } finally {
        clearInterval(timer);
      }
      report(`${label}: done in ${seconds()} s`);
    }
    leftSeconds -= set.estimateSeconds;
  }
}

async function buildSet(set: ToolSet, folder: string, signal: AbortSignal): Promise<void> {
  const partial = `${folder}.partial`;
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true });
  const variables = Object.entries(set.variables ?? {}).map(
    ([name, value]) => `-X ${name}=${value}`,
  );
  const argv = ["go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false"];
  if (set.tags) argv.push("-tags", set.tags);
  argv.push("-ldflags", ["-s", "-w", ...variables].join(" "));
  for (const { output, goPackages, arch } of buildsOf(set)) {
    await run([...argv, "-o", join(partial, output), ...goPackages], {
      cwd: join(import.meta.dirname, set.name),
      env: goEnvironment({
        CGO_ENABLED: set.cgo ? "1" : "0",
        GOTMPDIR: partial, // An interrupted build leaves its work there, and the next removes it.
        ...(arch && { GOARCH: arch }),
      }),
      timeoutMs: 60 * 60_000,
      signal,
    });
  }
  await rename(partial, folder);
}

/** Folder of the built sets, which also holds the lock on all building. */
export function toolsFolder(): string {
  return join(cacheFolder(), "tools");
}

/** Go's own caches go where `clean` finds them, and not into the user's. */
function goEnvironment(extra: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return {
    ...process.env,
    GOFLAGS: "",
    GOMODCACHE: join(cacheFolder(), "go-mod"),
    GOCACHE: join(cacheFolder(), "go-build"),
    ...extra,
  };
}

/**
 * The compiler's calls for a set. Programs that Go would name as we do are built in one, which links
 * some while it still compiles for others.
 */
function buildsOf(set: ToolSet): { output: string; goPackages: string[]; arch?: string }[] {
  const binaries = binariesOf(set);
  const isNamedByGo = binaries.every(({ name, goPackage }) => goPackage.endsWith(`/${name}`));
  if (isNamedByGo) return [{ output: "/", goPackages: binaries.map(({ goPackage }) => goPackage) }];
  return binaries.map(({ name, goPackage, arch }) => ({
    output: name,
    goPackages: [goPackage],
    ...(arch && { arch }),
  }));
}

function binariesOf(set: ToolSet): { name: string; goPackage: string; arch?: string }[] {
  return Object.entries(set.programs).flatMap(([name, goPackage]) => [
    { name, goPackage },
    ...(set.alsoFor ?? []).map((arch) => ({ name: `${name}-${arch}`, goPackage, arch })),
  ]);
}

async function keyOf(set: ToolSet, goVersion: string): Promise<string> {
  const { estimateSeconds: _, ...recipe } = set;
  const hash = createHash("sha256").update(
    JSON.stringify([recipe, goVersion, process.arch, process.platform]),
  );
  const folder = join(import.meta.dirname, set.name);
  const names = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = names.filter((entry) => entry.isFile());
  for (const file of files.map((entry) => join(entry.parentPath, entry.name)).sort()) {
    hash.update(file.slice(folder.length)).update(await readFile(file));
  }
  return hash.digest("hex").slice(0, 16);
}

/** Go fetches a newer toolchain by itself from this version on. */
const oldestGo = [1, 21] as const;

async function findGoVersion(signal: AbortSignal): Promise<string> {
  const needed = `The sandbox needs Go ${oldestGo.join(".")} or later on the PATH to build its programs`;
  let version: string;
  try {
    version = (await run(["go", "env", "GOVERSION"], { signal })).stdout.trim();
  } catch (error) {
    signal.throwIfAborted();
    throw new Error(needed, { cause: error });
  }
  const [, major = 0, minor = 0] = /^go(\d+)\.(\d+)/.exec(version)?.map(Number) ?? [];
  if (major < oldestGo[0] || (major === oldestGo[0] && minor < oldestGo[1])) {
    throw new Error(`${needed}, and this is ${version}`);
  }
  return version;
}

async function haveAll(folder: string, programs: readonly string[]): Promise<boolean> {
  try {
    await Promise.all(programs.map((name) => access(join(folder, name), constants.X_OK)));
    return true;
  } catch {
    return false;
  }
}

function minutes(seconds: number): string {
  return seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}
