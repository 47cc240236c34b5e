import type { Repository } from "#oci/reference.ts";
import { loginsFor, type KeyringEntry, type Login } from "#remote/keyring.ts";

type Scope = { signal: AbortSignal };

/** Gives logins that no Secret holds, to every namespace. Implemented by `CredentialProviders`. */
export interface LoginProviders {
  /** Changes with what is set up. */
  readonly revision: string;
  /** Whether it may have a login for a repository. */
  isFor(repository: Repository): boolean;
  /** The most fitting first. It may take a minute. */
  loginsFor(repository: Repository, scope: Scope): Promise<readonly Login[]>;
}

/** Most logins that are tried at a registry for one question, as agents do for one pull. */
const maxLogins = 8;

export interface LoginSources {
  /** What Secrets hold. */
  entries: readonly KeyringEntry[];
  providers: Pick<LoginProviders, "loginsFor">;
}

/**
 * The logins that may be shown to a repository's registry, in the order to try them: the fitting ones of
 * Secrets, then those of the operator's providers.
 *
 * @throws the signal's reason, if aborted. It may take as long as a provider's first answer.
 */
export async function repositoryLogins(
  repository: Repository,
  { entries, providers }: LoginSources,
  { signal }: Scope,
): Promise<Login[]> {
  const provided = await providers.loginsFor(repository, { signal });
  return [...loginsFor(repository, entries), ...provided].slice(0, maxLogins);
}
