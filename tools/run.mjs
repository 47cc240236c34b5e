// Runs one of the project's TypeScript files with the project's own Node:
//
//   node tools/run.mjs script.ts arguments…
//
// The first step of every npm script. It is plain JavaScript for Node 20, and needs no package:
// it installs them if node_modules is not what package-lock.json says.
import { spawn } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { mkdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const modules = join(root, "node_modules");
const stampFile = join(modules, ".coral-lock");

const installAttempts = 3;

/** A holder touches the lock every second; one that has not for this long is dead. */
const staleLockMs = 15_000;

/** npm and a terminal both pass a signal on, so one Ctrl-C can arrive more than once. */
const sameSignalMs = 500;

/** The process that is asked to stop when we are, and the signal that asked. */
const current = { child: undefined, stopSignal: undefined };
const lastSeenMs = {};

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    const nowMs = performance.now();
    if (nowMs - (lastSeenMs[signal] ?? -Infinity) < sameSignalMs) return;
    lastSeenMs[signal] = nowMs;
    current.stopSignal = signal;
    current.child?.kill(signal);
  });
}

/**
 * Runs a program until it ends. It gets a session of its own: a signal to our process group would
 * otherwise reach it directly and through us, and the second one kills what the first one stops.
 */
async function run(program, args, options) {
  const child = spawn(program, args, { cwd: root, detached: true, ...options });
  current.child = child;
  if (current.stopSignal) child.kill(current.stopSignal);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => resolve({ code, signal }));
  });
}

/** Ends as a child did: with its code, or by its signal. */
function endLike({ code, signal }) {
  if (signal) {
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
    setTimeout(() => process.exit(1), 1_000); // Some signals do not end us.
  } else {
    process.exitCode = code;
  }
}

/** What node_modules must match: the lock file, on this platform. */
async function wantedStamp() {
  const lock = await readFile(join(root, "package-lock.json"));
  const sha256 = createHash("sha256").update(lock).digest("hex");
  return `${sha256} ${process.platform}-${process.arch}\n`;
}

async function isInstalled() {
  const stamp = await readFile(stampFile, "utf8").catch(() => "");
  return stamp === (await wantedStamp());
}

/** Whether npm has just installed what the lock file says, by hand and without our stamp. */
async function isInstalledByHand() {
  const [wanted, found] = await Promise.all(
    [join(root, "package-lock.json"), join(modules, ".package-lock.json")].map(async (file) => {
      const { packages = {} } = JSON.parse(await readFile(file, "utf8").catch(() => "{}"));
      return packages;
    }),
  );
  const names = Object.keys(wanted).filter((name) => name !== "");
  return (
    Object.keys(found).length > 0 &&
    Object.keys(found).every((name) => name in wanted) &&
    names.every((name) =>
      found[name] ? found[name].integrity === wanted[name].integrity : wanted[name].optional,
    )
  );
}

async function install() {
  if (!(await isInstalledByHand())) await npmCi();
  if (!current.stopSignal) await writeFile(stampFile, await wantedStamp());
}

async function npmCi() {
  console.error("Installing the packages that package-lock.json names…");
  for (let attempt = 1; attempt <= installAttempts; attempt++) {
    // Our own output is the script's; what npm says goes beside it.
    const { code } = await run("npm", ["ci", "--loglevel=error"], { stdio: ["ignore", 2, 2] });
    if (code === 0 || current.stopSignal) return;
    console.error(`npm ci failed (attempt ${attempt} of ${installAttempts})`);
    if (attempt < installAttempts) await sleep(attempt * 2_000);
    if (current.stopSignal) return;
  }
  throw new Error("Cannot install the packages, see npm's own words above");
}

/**
 * Runs `work` while nobody else does for this folder. The lock is a folder outside the repository
 * that is put in place, whole, by a rename: that fails as long as another one is there.
 */
async function locked(work) {
  const key = createHash("sha256").update(root).digest("hex").slice(0, 16);
  const lock = join(tmpdir(), `coral-install-${process.getuid?.() ?? "user"}-${key}`);
  const id = randomUUID();
  const mine = `${lock}.${id}`;
  await mkdir(mine, { recursive: true, mode: 0o700 });
  await writeFile(join(mine, "id"), id);
  await acquire(lock, mine);
  const beat = setInterval(() => void touch(join(lock, "id")), 1_000);
  try {
    await work();
  } finally {
    clearInterval(beat);
    const holder = await readFile(join(lock, "id"), "utf8").catch(() => "");
    if (holder === id) await rename(lock, mine).then(() => rm(mine, { recursive: true }));
  }
}

async function acquire(lock, mine) {
  for (let hasTold = false; !current.stopSignal; await sleep(200)) {
    try {
      await touch(join(mine, "id"));
      await rename(mine, lock);
      return;
    } catch (error) {
      if (!["ENOTEMPTY", "EEXIST"].includes(error.code)) throw error;
    }
    if (!hasTold) console.error("Waiting for another process that installs the packages…");
    hasTold = true;
    await breakStale(lock);
  }
  await rm(mine, { recursive: true });
  throw new Error("Stopped while another process was installing the packages");
}

/**
 * Moves a dead holder's lock out of the way, to a name made of its id: whoever comes second finds
 * that name taken, and so cannot move away the lock of the one who came first.
 */
async function breakStale(lock) {
  try {
    const { mtimeMs } = await stat(join(lock, "id"));
    if (Date.now() - mtimeMs < staleLockMs) return;
    const id = await readFile(join(lock, "id"), "utf8");
    await rename(lock, `${lock}.stale-${id}`);
  } catch (error) {
    if (!["ENOENT", "ENOTEMPTY", "EEXIST"].includes(error.code)) throw error;
  }
}

async function touch(file) {
  const now = new Date();
  await utimes(file, now, now);
}

async function main() {
  const [script, ...args] = process.argv.slice(2);
  if (!script) throw new Error("Usage: node tools/run.mjs script.ts [arguments…]");
  if (!(await isInstalled())) {
    await locked(async () => {
      if (!(await isInstalled())) await install();
    });
  }
  if (current.stopSignal) {
    endLike({ code: 1, signal: current.stopSignal });
    return;
  }
  const bin = join(modules, ".bin");
  const env = { ...process.env, PATH: `${bin}:${process.env.PATH ?? ""}:/usr/sbin:/sbin` }; // Debian's su leaves them out.
  const node = join(bin, "node");
  endLike(await run(node, [resolve(root, script), ...args], { stdio: "inherit", env }));
}

try {
  await main();
} catch (error) {
  if (current.stopSignal) endLike({ code: 1, signal: current.stopSignal });
  else {
    console.error(error.message);
    process.exitCode = 1;
  }
}
