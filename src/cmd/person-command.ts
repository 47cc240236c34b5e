import { CommanderError, type Command } from "commander";

/** Reads a person's command line and does what it says. Flags that mean nothing make the exit code 2. */
export async function parseCommand(command: Command, argv: readonly string[]): Promise<void> {
  // Whoever reads the output, like `head`, may have had enough of it.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", ignoreClosedPipe);
  try {
    await command.parseAsync([...argv], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    process.exitCode = error.exitCode === 0 ? 0 : 2;
  }
}

/** Tells the person who waits, beside the output that a program may read. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

function ignoreClosedPipe(error: NodeJS.ErrnoException): void {
  if (error.code !== "EPIPE") throw error;
}
