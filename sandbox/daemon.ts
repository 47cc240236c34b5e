import { spawn } from "node:child_process";
import { mkdir, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";

import type { Layout } from "./layout.ts";
import { identify, isAlive, kill, readProcessId, type ProcessId } from "./process-id.ts";
import { waitFor } from "./wait.ts";

type Scope = { signal: AbortSignal };

/** A program that runs on after the process that started it. */
export interface Daemon {
  /** Its name in this sandbox: `etcd`, `node1/kubelet`. */
  id: string;
  /** Command that replaces itself with the daemon (nsenter, sh's exec), so the pid is the daemon's. */
  argv: readonly string[];
  env?: NodeJS.ProcessEnv;
}

/** How long a daemon has after SIGTERM before SIGKILL; kube-apiserver takes 10 s with open watches. */
const gracePeriodMs = 15_000;

/** The daemons of one sandbox. What runs is kept in files, so any process can look and end them. */
export class Daemons {
  readonly #layout: Layout;

  constructor(layout: Layout) {
    this.#layout = layout;
  }

  /** Starts a daemon in its own process group, its output appended to its log. */
  async spawn({ id, argv, env }: Daemon): Promise<ProcessId> {
    const running = await this.find(id);
    if (running) throw new Error(`"${id}" runs already, as process ${running.pid}`);
    await mkdir(this.#layout.logs, { recursive: true });
    await using log = await open(this.#layout.logOf(id), "a");
    const [file = "", ...args] = argv;
    const child = spawn(file, args, {
      detached: true,
      stdio: ["ignore", log.fd, log.fd],
      env: { ...process.env, ...env },
    });
    const started = Promise.withResolvers<void>();
    child.once("spawn", started.resolve).once("error", started.reject);
    await started.promise;
    child.unref();
    return this.record(id, child.pid ?? 0);
  }

  /** Remembers a process that was started in another way as the daemon `id`. */
  async record(id: string, pid: number): Promise<ProcessId> {
    const daemon = identify(pid);
    if (!daemon) throw new Error(`"${id}" ended at once:\n${await this.lastLines(id)}`);
    await mkdir(this.#folder, { recursive: true });
    await writeFile(this.#file(id), JSON.stringify(daemon));
    return daemon;
  }

  /** The running process of a daemon. */
  async find(id: string): Promise<ProcessId | undefined> {
    const daemon = await readProcessId(this.#file(id));
    return daemon && isAlive(daemon) ? daemon : undefined;
  }

  async require(id: string): Promise<ProcessId> {
    const daemon = await this.find(id);
    if (!daemon) throw new Error(`"${id}" does not run`);
    return daemon;
  }

  /** Names of all daemons that were started and not removed, running or not. */
  async list(): Promise<string[]> {
    const files = await readdir(this.#folder).catch(() => []);
    return files.map((file) => basename(file, ".json").replace("-on-", "/")).sort();
  }

  /** Names of the daemons that ended although nobody ended them. */
  async crashed(): Promise<string[]> {
    const ids = await this.list();
    const daemons = await Promise.all(ids.map((id) => readProcessId(this.#file(id))));
    return ids.filter((_, position) => {
      const daemon = daemons[position];
      return daemon && !isAlive(daemon);
    });
  }

  /** Asks a daemon to end, waits, and ends it by force when it takes too long. */
  async stop(id: string, { signal }: Scope): Promise<void> {
    const daemon = await this.find(id);
    if (!daemon) return;
    await writeFile(this.#file(id), ended);
    kill(daemon, "SIGTERM");
    try {
      await waitFor(() => !isAlive(daemon), {
        what: `"${id}" to end`,
        timeoutMs: gracePeriodMs,
        signal,
      });
    } catch {
      signal.throwIfAborted();
      kill(daemon, "SIGKILL");
      await gone(id, daemon, { signal });
    }
  }

  /** Ends a daemon at once, as a crash would, and waits until it is gone. */
  async kill(id: string, { signal }: Scope): Promise<void> {
    const daemon = await this.find(id);
    if (!daemon) return;
    await writeFile(this.#file(id), ended);
    kill(daemon, "SIGKILL");
    await gone(id, daemon, { signal });
  }

  /** Forgets a daemon that will not come back. */
  async remove(id: string): Promise<void> {
    await rm(this.#file(id), { force: true });
  }

  /** The end of a daemon's log, for errors. */
  async lastLines(id: string, count = 15): Promise<string> {
    const log = await readFile(this.#layout.logOf(id), "utf8").catch(() => "");
    return log.trimEnd().split("\n").slice(-count).join("\n");
  }

  get #folder(): string {
    return this.#layout.path("daemons");
  }

  #file(id: string): string {
    return join(this.#folder, `${id.replace("/", "-on-")}.json`);
  }
}

/** Stands in the file of a daemon that was ended on purpose. */
const ended = "null";

async function gone(id: string, daemon: ProcessId, { signal }: Scope): Promise<void> {
  await waitFor(() => !isAlive(daemon), { what: `"${id}" to be gone`, everyMs: 10, signal });
}
