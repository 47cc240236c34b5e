import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";

/** How a command ended. */
export interface CommandResult {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command that runs. */
export interface RunningCommand {
  readonly child: ChildProcess;
  /** Resolves when a text has been written to stderr. */
  seen(words: string): Promise<void>;
  readonly result: Promise<CommandResult>;
}

/** A user at a machine: a folder with a `bin`, registry logins, and `coral mirror run` as a process. */
export class MirrorUser implements AsyncDisposable {
  readonly folder: string;
  readonly #remove: () => Promise<void>;
  readonly #running = new Set<ChildProcess>();

  private constructor(folder: string, remove: () => Promise<void>) {
    this.folder = folder;
    this.#remove = remove;
  }

  static async make(): Promise<MirrorUser> {
    const folder = await mkdtempDisposable(join(tmpdir(), "coral-user-"));
    return new MirrorUser(folder.path, () => folder.remove());
  }

  /** Writes a file into the folder. */
  async write(name: string, content: string, mode = 0o644): Promise<void> {
    const path = join(this.folder, name);
    await mkdir(join(path, ".."), { recursive: true });
    await writeFile(path, content, { mode });
  }

  /** Logs in as `docker login` does. */
  async logIn(host: string, username: string, password: string): Promise<void> {
    const auth = Buffer.from(`${username}:${password}`).toString("base64");
    await this.write(".docker/config.json", JSON.stringify({ auths: { [host]: { auth } } }));
  }

  /** Starts `coral mirror run` in the folder. */
  start(args: readonly string[], stdin = ""): RunningCommand {
    const program = join(import.meta.dirname, "..", "..", "src", "cmd", "main.ts");
    const child = spawn(process.execPath, [program, "mirror", "run", ...args], {
      cwd: this.folder,
      env: {
        PATH: `${join(this.folder, "bin")}:${process.env["PATH"]}`,
        HOME: this.folder,
        NODE_COMPILE_CACHE: process.env["NODE_COMPILE_CACHE"],
      },
      stdio: "pipe",
    });
    this.#running.add(child);
    child.stdin.on("error", () => {}); // It may end without reading.
    child.stdin.end(stdin);
    let said = "";
    const waiting = new Set<() => void>();
    child.stderr.on("data", (chunk: Buffer) => {
      said += chunk.toString();
      for (const look of waiting) look();
    });
    const result = Promise.all([text(child.stdout), once(child, "close")]).then(
      ([stdout]): CommandResult => {
        this.#running.delete(child);
        return { exitCode: child.exitCode, stdout, stderr: said };
      },
    );
    const seen = async (words: string): Promise<void> => {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const look = (): void => {
        if (said.includes(words)) resolve();
      };
      waiting.add(look);
      look();
      void result.then(({ stderr }) =>
        reject(new Error(`It ended without "${words}":\n${stderr}`)),
      );
      await promise;
    };
    return { child, seen, result };
  }

  async run(args: readonly string[], stdin = ""): Promise<CommandResult> {
    return this.start(args, stdin).result;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#running) child.kill("SIGKILL");
    await this.#remove();
  }
}
