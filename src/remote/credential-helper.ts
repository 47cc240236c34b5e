import { Deadline } from "#async/deadline.ts";
import { isJsonObject, parseJson, textOf } from "#json/json.ts";
import type { Login } from "./keyring.ts";
import { runProgram, type ProgramResult } from "./run-program.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

/** Room for the longest token. */
const maxOutputBytes = 64 * 1_024;

/** What all helpers say, whatever they keep logins in (docker-credential-helpers, `credentials/error.go`). */
const notFound = /credentials not found|no credentials server URL|no credentials username/i;

/**
 * A credential helper did not answer, so that it is not known whether there is a login.
 *
 * - `HELPER_NOT_FOUND`: there is no such program.
 * - `HELPER_FAILED`: it ended with an error, took too long or said something else than a login.
 *
 * It holds nothing of what the helper said, which may be a login.
 */
export class CredentialHelperError extends Error {
  override readonly name = "CredentialHelperError";
  readonly code: "HELPER_NOT_FOUND" | "HELPER_FAILED";
  readonly retryable = false;
  readonly reason: string;

  constructor(code: CredentialHelperError["code"], host: string, reason: string) {
    super(`Cannot get the login for "${host}": ${reason}`);
    this.code = code;
    this.reason = `cannot get the login for "${host}": ${reason}`;
  }
}

export interface HelperRequest {
  /** What stands after `docker-credential-`. */
  readonly helper: string;
  /** `host[:port]`; Docker Hub is `docker.io`. */
  readonly host: string;
  /** Which file names the helper, for people. */
  readonly file: string;
}

/**
 * Asks a credential helper for the login to a registry, as Docker does; `undefined` if it has none.
 *
 * @throws {CredentialHelperError}
 * @throws the signal's reason, if aborted.
 */
export async function askHelper(
  { helper, host, file }: HelperRequest,
  { env, timeoutMs, signal }: { env: Environment; timeoutMs: number; signal: AbortSignal },
): Promise<Login | undefined> {
  const program = `docker-credential-${helper}`;
  const place = host === "docker.io" ? "https://index.docker.io/v1/" : host; // As `docker login` keeps it.
  const fail = (reason: string): CredentialHelperError =>
    new CredentialHelperError(
      "HELPER_FAILED",
      host,
      `"${program}", which ${file} names, ${reason}`,
    );
  using deadline = new Deadline(timeoutMs, signal);
  let result: ProgramResult;
  try {
    result = await runProgram(program, {
      args: ["get"],
      env: Object.fromEntries(Object.entries(env).filter(isSet)),
      input: `${place}\n`,
      maxOutputBytes,
      signal: deadline.signal,
    });
  } catch (error) {
    signal.throwIfAborted();
    if (deadline.hasPassed) throw fail(`did not answer within ${timeoutMs / 1_000} s`);
    const isAbsent = error instanceof Error && "code" in error && error.code === "ENOENT";
    if (!isAbsent) throw fail("cannot be run");
    const reason = `"${program}", which ${file} names, is not on the PATH: install it, or take it out there`;
    throw new CredentialHelperError("HELPER_NOT_FOUND", host, reason);
  }
  const { exitCode, stdout, isTooLong } = result;
  if (isTooLong) throw fail(`wrote more than ${maxOutputBytes} bytes`);
  if (exitCode !== 0) {
    if (notFound.test(stdout)) return undefined;
    throw fail(`failed: run "echo ${place} | ${program} get" to see why`);
  }
  const said = parseJson(stdout);
  if (!isJsonObject(said)) throw fail("did not write a JSON object");
  const [username, secret] = [textOf(said["Username"]), textOf(said["Secret"])];
  if (secret === "") return undefined;
  if (username === "<token>") return { identityToken: secret };
  if (username === "" || username.includes(":")) throw fail("gave no user name that can be one");
  return { username, password: secret };
}

function isSet(entry: [string, string | undefined]): entry is [string, string] {
  return entry[1] !== undefined;
}
