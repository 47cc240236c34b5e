import { spawn } from "node:child_process";
import { addAbortListener, once } from "node:events";

export interface ProgramOptions {
  readonly args: readonly string[];
  /** All of its environment. */
  readonly env: Readonly<Record<string, string>>;
  /** What it reads. */
  readonly input: string;
  /** It is killed when it has written more. */
  readonly maxOutputBytes: number;
  readonly signal: AbortSignal;
}

/** How a program ended. */
export interface ProgramResult {
  /** `null` if it was killed. */
  readonly exitCode: number | null;
  readonly stdout: string;
  /** The end of what it wrote there. */
  readonly stderr: string;
  /** Whether it wrote more than it may. */
  readonly isTooLong: boolean;
}

/** The last words say what went wrong. */
const maxErrorBytes = 4_096;

/**
 * Runs a program to its end, without a shell, and with it all that it starts: they are one process group,
 * of which nothing is left when this returns.
 *
 * @throws the system's error if it cannot be started.
 * @throws the signal's reason, if aborted.
 */
export async function runProgram(
  file: string,
  { args, env, input, maxOutputBytes, signal }: ProgramOptions,
): Promise<ProgramResult> {
  signal.throwIfAborted();
  const child = spawn(file, args, { env: { ...env }, stdio: "pipe", detached: true });
  const { stdin, stdout, stderr } = child;
  const kill = (): void => {
    killGroup(child.pid);
    stdout.destroy(); // Whoever has left the group may hold it open, and with it this process.
    stderr.destroy();
  };
  using _ = addAbortListener(signal, kill);
  const closed = once(child, "close");
  child.once("exit", () => killGroup(child.pid)); // What it has left behind holds its pipes open.
  stdin.on("error", () => {}); // It may end without reading.
  stdin.end(input);

  const chunks: Buffer[] = [];
  let bytes = 0;
  stdout.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > maxOutputBytes) kill();
    else chunks.push(chunk);
  });
  let lastWords = Buffer.alloc(0);
  stderr.on("data", (chunk: Buffer) => {
    lastWords = Buffer.concat([lastWords, chunk]).subarray(-maxErrorBytes);
  });
  await closed;
  signal.throwIfAborted();
  return {
    exitCode: child.exitCode,
    stdout: Buffer.concat(chunks).toString(),
    stderr: lastWords.toString(),
    isTooLong: bytes > maxOutputBytes,
  };
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // Nobody of it is left.
  }
}
