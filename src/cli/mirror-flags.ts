import { Command, InvalidArgumentError, Option } from "commander";

import { DestinationError, parseDestination } from "#api/v1/destination.ts";

/** What can be said to `coral mirror run`. */
export interface MirrorFlags {
  readonly filename: readonly string[];
  readonly dryRun?: boolean;
  readonly report?: "json";
  readonly parallel: number;
  readonly refreshReferrers?: boolean;
  readonly plainHttp?: readonly string[];
  readonly insecureSkipTlsVerify?: readonly string[];
  readonly caFile?: string;
}

/**
 * Declares `coral mirror …`. Wrong flags and `--help` are a `CommanderError`, once they are told.
 *
 * @param run - carries out `coral mirror run`.
 */
export function mirrorCommand(run: (flags: MirrorFlags) => Promise<void>): Command {
  const command = new Command("run")
    .description("Makes one pass over the Mirrors of files, with your own registry logins.")
    .requiredOption("-f, --filename <file>", 'file of Mirrors, "-" for stdin; repeatable', collect)
    .option("--dry-run", "say what would be copied, with its size, and write nothing")
    .addOption(
      new Option("--report <form>", "write a report for programs to stdout").choices(["json"]),
    )
    .option("--parallel <number>", "blobs from one registry at the same time", parseParallel, 8)
    .option("--refresh-referrers", "look for new signatures and SBOMs of unchanged tags too")
    .option("--plain-http <host>", "speak HTTP without TLS to host[:port]; repeatable", collectHost)
    .option(
      "--insecure-skip-tls-verify <host>",
      "take any certificate of host[:port]; repeatable",
      collectHost,
    )
    .option("--ca-file <file>", "trust the certificates (PEM) in this file too")
    .addHelpText("after", examples)
    .showHelpAfterError('See "coral mirror run --help".')
    .exitOverride()
    .action(run);
  return new Command("coral mirror")
    .description("Copies repositories into registries and OCI layouts.")
    .exitOverride()
    .addCommand(command);
}

const examples = `
Examples:
  coral mirror run -f mirror.yaml                  bring the copies into step
  coral mirror run -f mirror.yaml --dry-run        only say what would be copied
  coral mirror run -f - --report json < mirror.yaml > report.json

In a file, "registry" may be "oci:DIR", and the name of a repository "oci:DIR" or
"oci:DIR:ghcr.io/org/app": an OCI layout, to carry images to where no network leads.

Exit codes: 0 all in step, 1 something failed, 2 wrong flags or file, 130 Ctrl-C.`;

function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}

function collectHost(value: string, before: readonly string[] = []): string[] {
  try {
    const { registry, prefix } = parseDestination(value);
    if (prefix === "") return [...before, registry];
  } catch (error) {
    if (!(error instanceof DestinationError)) throw error;
  }
  throw new InvalidArgumentError('It must be a host like "registry.local" or "localhost:5000".');
}

function parseParallel(text: string): number {
  const number = Number(text);
  if (/^\d{1,3}$/.test(text) && number >= 1 && number <= 64) return number;
  throw new InvalidArgumentError("It must be a whole number from 1 to 64.");
}
