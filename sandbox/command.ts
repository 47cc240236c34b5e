import { spawn } from "node:child_process";

export interface CommandOptions {
  signal: AbortSignal;
  /** Text for its standard input; without it the input is empty. */
  input?: string;
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** Longest run, in milliseconds: 60 s if not given. */
  timeoutMs?: number;
  /** Gets each piece of what it writes to standard error, as it comes. */
  onStderr?: (text: string) => void;
}

/** More output than this is a mistake of the caller, not something to hold in memory. */
const maxOutputBytes = 64 * 1024 * 1024;

/** A command could not be run, ran out of time or ended with another exit code than 0. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;

  constructor(argv: readonly string[], how: string, result: Partial<CommandResult>) {
    const tail = (result.stderr || result.stdout || "").trim().split("\n").slice(-15).join("\n");
    super(`Command "${argv.join(" ").slice(0, 300)}" ${how}${tail && `:\n${tail}`}`);
    this.exitCode = result.exitCode;
    this.stdout = result.stdout ?? "";
    this.stderr = result.stderr ?? "";
  }
}

export interface CommandResult {
  exitCode: number;
  stdout: string;
  stderr: string;
}

/**
 * Runs a command to its end and returns what it printed.
 *
 * @throws {CommandError} if it cannot be started, fails, or takes longer than `timeoutMs`.
 * @throws the signal's reason, if aborted; the command has then been killed.
 */
export async function run(
  argv: readonly string[],
  options: CommandOptions,
): Promise<CommandResult> {
  const result = await runToEnd(argv, options);
  if (result.exitCode !== 0) throw new CommandError(argv, `exited with ${result.exitCode}`, result);
  return result;
}

/** As {@link run}, but an exit code other than 0 is a result like any other. */
export async function runToEnd(
  argv: readonly string[],
  { signal, input = "", env = process.env, cwd, timeoutMs = 60_000, onStderr }: CommandOptions,
): Promise<CommandResult> {
  signal.throwIfAborted();
  const [file = "", ...args] = argv;
  const timeout = AbortSignal.timeout(timeoutMs);
  const child = spawn(file, args, {
    env,
    cwd,
    stdio: "pipe",
    signal: AbortSignal.any([signal, timeout]),
    killSignal: "SIGKILL",
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  let size = 0;
  const keep = (into: Buffer[]) => (chunk: Buffer) => {
    size += chunk.length;
    if (size > maxOutputBytes) child.kill("SIGKILL");
    else into.push(chunk);
  };
  child.stdout.on("data", keep(stdout));
  child.stderr.on("data", keep(stderr));
  if (onStderr) child.stderr.on("data", (chunk: Buffer) => onStderr(chunk.toString()));
  child.stdin.on("error", () => {}); // A command that does not read its input is no failure.
  child.stdin.end(input);

  const { promise, resolve } = Promise.withResolvers<number | Error>();
  child.once("error", resolve);
  child.once("close", (code, by) => resolve(code ?? new Error(`was ended by ${by}`)));
  const end = await promise;
  signal.throwIfAborted();
  const output = {
    stdout: Buffer.concat(stdout).toString(),
    stderr: Buffer.concat(stderr).toString(),
  };
  if (typeof end === "number") return { exitCode: end, ...output };
  if (timeout.aborted) throw new CommandError(argv, `took longer than ${timeoutMs} ms`, output);
  throw new CommandError(argv, `cannot be run (${end.message})`, output);
}
