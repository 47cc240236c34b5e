import type { PullCredentials } from "#cri/runtime-client.ts";

/** Where an agent gets logins. */
export interface LoginSource {
  /**
   * Returns the logins for a reference, those of the longest matching path first; empty if there
   * are none. They are for this pull and are not to be kept.
   *
   * @throws {LoginsUnavailableError} if nobody can be asked now.
   * @throws the signal's reason, if aborted.
   */
  loginsFor(
    reference: string,
    options: { signal: AbortSignal },
  ): Promise<readonly PullCredentials[]>;
}

/** The controller could not be asked for logins. */
export class LoginsUnavailableError extends Error {
  override readonly name = "LoginsUnavailableError";
  readonly code = "LOGINS_UNAVAILABLE";
  /** False if it answered, and refused: then only a person can change the outcome. */
  readonly retryable: boolean;

  constructor(message: string, { cause, retryable }: { cause?: unknown; retryable: boolean }) {
    super(message, { cause });
    this.retryable = retryable;
  }
}
