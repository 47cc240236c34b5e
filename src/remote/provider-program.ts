import { join } from "node:path";

import { Deadline } from "#async/deadline.ts";
import { isJsonObject, parseJson } from "#json/json.ts";
import type { Repository } from "#oci/reference.ts";
import type { CredentialProvider } from "./provider-config.ts";
import { formatRequest, parseResponse, type ProviderResponse } from "./provider-response.ts";
import { redactedLine } from "./redact.ts";
import { runProgram, type ProgramResult } from "./run-program.ts";

/** The kubelet takes as much as there is; a real answer has a few KiB. */
const maxOutputBytes = 1 << 20;

/** A provider did not answer, so that it is not known whether there is a login. */
export class ProviderError extends Error {
  override readonly name = "ProviderError";
  readonly code = "PROVIDER_FAILED";
  readonly retryable = true;

  constructor(name: string, { registry }: Repository, how: string, cause?: unknown) {
    super(`Credential provider "${name}" gave no answer for "${registry}": ${how}`, { cause });
  }
}

export interface AskOptions {
  /** Where the providers' programs are. */
  readonly folder: string;
  /** The environment of this process, of which they get what is not Coral's own. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Longest run. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/**
 * Starts a provider's program and returns its answer.
 *
 * @throws {ProviderError} which tells of the program's stderr no more than a line without secrets.
 * @throws the signal's reason, if aborted; the program has then been killed.
 */
export async function askProvider(
  provider: CredentialProvider,
  repository: Repository,
  { folder, environment, timeoutMs, signal }: AskOptions,
): Promise<ProviderResponse> {
  const { name, args } = provider;
  const fail = (how: string, cause?: unknown): ProviderError =>
    new ProviderError(name, repository, how, cause);
  const env = { ...inherited(environment), ...provider.env };
  const input = formatRequest(repository);
  using deadline = new Deadline(timeoutMs, signal);
  let result: ProgramResult;
  try {
    const { signal: inTime } = deadline;
    const options = { args, env, input, maxOutputBytes, signal: inTime };
    result = await runProgram(join(folder, name), options);
  } catch (error) {
    signal.throwIfAborted();
    throw deadline.hasPassed
      ? fail(`it ran for more than ${timeoutMs / 1_000} s`)
      : fail("it cannot be started", error);
  }
  if (result.isTooLong) throw fail(`it wrote more than ${maxOutputBytes} bytes`);
  if (result.exitCode !== 0) {
    const said = redactedLine(result.stderr, secretsIn(provider, result.stdout));
    throw fail(`exit code ${result.exitCode ?? "unknown, it was killed"}${said && `: ${said}`}`);
  }
  const response = parseResponse(result.stdout);
  if (typeof response === "string") throw fail(`its answer ${response}`);
  return response;
}

/**
 * What a provider gets of this process's environment: like the kubelet's all of it, where clouds put what
 * identifies the workload, but not what configures Coral and its own Node.
 */
function inherited(
  environment: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const entries = Object.entries(environment).flatMap(([name, value]): [string, string][] =>
    value === undefined || /^(?:CORAL_|NODE_|KUBECONFIG$)/.test(name) ? [] : [[name, value]],
  );
  return Object.fromEntries(entries);
}

/** What may be a secret, in what the program was given and what it wrote. */
function secretsIn({ env }: CredentialProvider, stdout: string): string[] {
  return [...Object.values(env), ...textsIn(parseJson(stdout))];
}

function textsIn(value: unknown): string[] {
  if (typeof value === "string") return [value];
  if (Array.isArray(value)) return value.flatMap(textsIn);
  return isJsonObject(value) ? Object.values(value).flatMap(textsIn) : [];
}
