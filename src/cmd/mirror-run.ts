import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { setFlagsFromString } from "node:v8";

import { parseDestination } from "#api/v1/destination.ts";
import { isAbort } from "#async/abort.ts";
import { systemClock } from "#async/clock.ts";
import { Display } from "#cli/display.ts";
import { Interrupt } from "#cli/interrupt.ts";
import {
  formatProblem,
  mirrorNotes,
  parseMirrorFiles,
  type FileMirror,
  type LocatedProblem,
} from "#cli/mirror-file.ts";
import { mirrorCommand, type MirrorFlags } from "#cli/mirror-flags.ts";
import { runPass } from "#cli/mirror-pass.ts";
import { planMirrors } from "#cli/mirror-plan.ts";
import { isLayoutName } from "#cli/place.ts";
import { readInput } from "#cli/read-input.ts";
import { Registries } from "#cli/registries.ts";
import { problemReport, reportOf } from "#cli/report.ts";
import { formatSummary } from "#cli/summary.ts";
import { UserLogins } from "#remote/docker-config.ts";
import { parseProxies } from "#remote/proxy.ts";
import packageJson from "#package.json" with { type: "json" };
import { parseCommand, say } from "./person-command.ts";
import type { ProcessInput } from "./role.ts";

type Environment = ProcessInput["env"];

/**
 * Runs `coral mirror …` on the user's machine. It needs no cluster.
 *
 * The exit code is 0 if all is in step, 1 if something failed or was throttled, 2 if flags or files are
 * wrong, and 130 after Ctrl-C.
 */
export async function runMirrorCommand({ env, argv }: ProcessInput): Promise<void> {
  // Buffers of blobs would pile up until all of the heap is searched for them: see src/remote/README.md.
  setFlagsFromString("--semi-space-growth-factor=1");
  const command = mirrorCommand(async (flags) => {
    process.exitCode = await runOnce(flags, env);
  });
  await parseCommand(command, argv);
}

function tell(notes: readonly string[]): void {
  for (const note of notes) say(`note: ${note}`);
}

async function runOnce(flags: MirrorFlags, env: Environment): Promise<number> {
  const input = await readInput(flags.filename, process.stdin);
  const { mirrors, problems, notes } = parseMirrorFiles(input.files);
  if (input.problems.length + problems.length > 0) {
    return refuse([...input.problems, ...problems], flags);
  }
  tell(notes);
  if (mirrors.length === 0) {
    say("There is no Mirror in what was given by --filename");
    return 2;
  }
  const settings = await readSettings(flags, env);
  if (typeof settings === "string") {
    say(settings);
    return 2;
  }
  tell([...settings.logins.problems, ...mirrors.flatMap(mirrorNotes)]);
  using display = new Display({
    write: (text) => process.stderr.write(text),
    clock: systemClock,
    ...(hasBars(env) && { space: terminalSpace }),
  });
  using interrupt = new Interrupt((line) => display.line(line));
  await using registries = new Registries({
    ...settings,
    userAgent: `coral/${packageJson.version}`,
    clock: systemClock,
    plainHttp: [...(flags.plainHttp ?? []), ...hostsWhere(mirrors, (tls) => tls.plainHTTP)],
    insecure: [
      ...(flags.insecureSkipTlsVerify ?? []),
      ...hostsWhere(mirrors, (tls) => tls.insecureSkipVerify),
    ],
    onThrottled: (host, untilMs) => display.waitFor(host, untilMs),
  });
  try {
    const exitCode = await copyAll(mirrors, flags, {
      display,
      registries,
      isColored: isColored(env),
      signal: interrupt.signal,
    });
    return interrupt.exitCode ?? exitCode;
  } catch (error) {
    if (!isAbort(error, interrupt.signal)) throw error;
    return interrupt.exitCode ?? 1; // Before there was anything to tell.
  }
}

interface PassParts {
  readonly display: Display;
  readonly registries: Registries;
  readonly isColored: boolean;
  readonly signal: AbortSignal;
}

async function copyAll(
  mirrors: readonly FileMirror[],
  flags: MirrorFlags,
  { display, registries, isColored, signal }: PassParts,
): Promise<number> {
  const { dryRun = false, refreshReferrers: referrersDue = false, parallel } = flags;
  const startedAt = systemClock.now();
  const active = mirrors.filter(({ spec }) => !spec.suspend);
  const { planned, problems } = await planMirrors(active, {
    open: (repository, options) => registries.open(repository, options),
    dryRun,
    referrersDue,
    signal,
  });
  if (problems.length > 0) {
    display[Symbol.dispose]();
    return refuse(problems, flags);
  }
  const result = await runPass({
    planned,
    dryRun,
    parallel,
    onEvent: (event) => display.note(event),
    signal,
  });
  display[Symbol.dispose](); // The bars go before the summary comes.
  const durationMs = systemClock.now().getTime() - startedAt.getTime();
  if (flags.report) writeJson(reportOf(result, { dryRun, startedAt, durationMs }));
  else process.stdout.write(formatSummary(result, { dryRun, durationMs, isColored }));
  return result.totals.failed + result.totals.throttled > 0 ? 1 : 0;
}

function refuse(problems: readonly LocatedProblem[], { report }: MirrorFlags): number {
  for (const problem of problems) say(formatProblem(problem));
  if (report) writeJson(problemReport(problems));
  return 2;
}

/** @returns a text for what cannot be used. */
async function readSettings(
  { caFile }: MirrorFlags,
  env: Environment,
): Promise<
  { logins: UserLogins; ca: string | undefined; proxies: ReturnType<typeof parseProxies> } | string
> {
  let ca: string | undefined;
  try {
    ca = caFile === undefined ? undefined : await readFile(caFile, "utf8");
    if (ca?.includes("-----BEGIN CERTIFICATE-----") === false) {
      return `--ca-file "${caFile}" must hold certificates in PEM`;
    }
  } catch {
    return `--ca-file "${caFile}" must be a file that can be read`;
  }
  try {
    const logins = await UserLogins.read({ env, homeFolder: homedir() });
    return { logins, ca, proxies: parseProxies(env) };
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return error.message;
  }
}

function hostsWhere(
  mirrors: readonly FileMirror[],
  is: (tls: NonNullable<FileMirror["spec"]["tls"]>) => boolean,
): string[] {
  return mirrors.flatMap(({ spec: { registry, tls } }) =>
    tls && is(tls) && !isLayoutName(registry) ? [parseDestination(registry).registry] : [],
  );
}

function hasBars(env: Environment): boolean {
  return process.stderr.isTTY && env["TERM"] !== "dumb";
}

function terminalSpace(): { columns: number; rows: number } {
  return { columns: process.stderr.columns || 80, rows: process.stderr.rows || 24 };
}

function isColored(env: Environment): boolean {
  return process.stdout.isTTY && env["TERM"] !== "dumb" && !env["NO_COLOR"];
}

function writeJson(value: object): void {
  process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
}
