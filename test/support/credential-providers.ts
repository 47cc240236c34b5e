import { existsSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import { parsePlace } from "#remote/keyring.ts";
import type { CredentialProvider } from "#remote/provider-config.ts";

/** As when no credential provider is set up. */
export const noProviders = {
  revision: "none",
  isFor: () => false,
  loginsFor: async () => [],
} as const;

/** What the fake credential provider does when it is started. */
export interface FakeProvider {
  /** Where it writes down that it was started, and with what. */
  recordIn?: string;
  /** What it writes to stdout: a text, or what becomes JSON. */
  answer?: unknown;
  stderr?: string;
  exitCode?: number;
  delayMs?: number;
  floodBytes?: number;
}

/** One start of the fake. */
interface Start {
  readonly request: unknown;
  readonly pid: number;
  readonly env: Readonly<Record<string, string>>;
}

/**
 * The fake's program, as a file to run: one function of this file, without its types.
 *
 * @param node - which Node runs it.
 */
export function fakeProgram(node: string = process.execPath): string {
  return `#!${node}\n${provide.toString()}\nawait provide();\n`;
}

/** Does what its one argument says. It stands alone in its file: nothing of this one is there. */
async function provide(): Promise<void> {
  const { appendFileSync, readFileSync } = await import("node:fs");
  const { setTimeout } = await import("node:timers/promises");
  const does: FakeProvider = JSON.parse(process.argv[2] ?? "{}");
  const request: unknown = JSON.parse(readFileSync(0, "utf8"));
  const { recordIn, answer, stderr = "", exitCode = 0, delayMs = 0, floodBytes = 0 } = does;
  if (recordIn !== undefined) {
    const { pid, env } = process;
    appendFileSync(recordIn, `${JSON.stringify({ request, pid, env })}\n`);
  }
  await setTimeout(delayMs);
  process.stdout.write("x".repeat(floodBytes));
  process.stderr.write(stderr);
  if (answer !== undefined) {
    process.stdout.write(typeof answer === "string" ? answer : JSON.stringify(answer));
  }
  process.exitCode = exitCode;
}

/** Puts the fake into a folder of programs. */
export async function installFake(folder: string, name: string): Promise<void> {
  await writeFile(join(folder, name), fakeProgram(), { mode: 0o755 });
}

/** A provider that is the fake. */
export function aProvider(
  matchImages: readonly string[],
  does: FakeProvider,
  { name = "fake", defaultCacheMs = 0, env = {} }: Partial<CredentialProvider> = {},
): CredentialProvider {
  const places = matchImages.map((pattern) => {
    const place = parsePlace(pattern);
    if (typeof place === "string") throw new TypeError(`"${pattern}" ${place}`);
    return place;
  });
  return { name, places, defaultCacheMs, args: [JSON.stringify(does)], env };
}

/** An answer with logins by the images that they are for. */
export function anAnswer(
  auth: Readonly<Record<string, { username: string; password: string }>>,
  { cacheKeyType = "Registry", cacheDuration }: AnswerOptions = {},
): unknown {
  return {
    kind: "CredentialProviderResponse",
    apiVersion: "credentialprovider.kubelet.k8s.io/v1",
    cacheKeyType,
    ...(cacheDuration !== undefined && { cacheDuration }),
    auth,
  };
}

interface AnswerOptions {
  cacheKeyType?: "Image" | "Registry" | "Global";
  cacheDuration?: string;
}

/** What the fake has written down, in the order of its starts. */
export function startsIn(file: string): Start[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, "utf8").split("\n").filter(Boolean);
  return lines.map((line): Start => JSON.parse(line));
}
