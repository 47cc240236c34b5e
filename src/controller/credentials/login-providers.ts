import type { Image } from "#api/v1/image.ts";
import { Deadline } from "#async/deadline.ts";
import {
  InvalidReferenceError,
  parseReference,
  parseRepository,
  type Repository,
} from "#oci/reference.ts";
import type { Login } from "#remote/keyring.ts";
import type { LoginProviders } from "#secrets/repository-logins.ts";

type Scope = { signal: AbortSignal };

/**
 * The revision of all logins that an Image may use; `undefined` if there are none, so that agents ask for none.
 *
 * @param secrets - the revision of the Secrets that it names, if it names any.
 */
export function loginRevision(
  { spec }: Image,
  secrets: string | undefined,
  providers: LoginProviders,
): string | undefined {
  const isProvided = spec.repositories.some(({ name }) => {
    const repository = repositoryOf(name);
    return repository !== undefined && providers.isFor(repository);
  });
  if (!isProvided) return secrets;
  return secrets === undefined ? providers.revision : `${secrets}.${providers.revision}`;
}

/** What providers gave for references. */
export interface Provided {
  readonly logins: ReadonlyMap<string, readonly Login[]>;
  /** References for which a provider took too long. */
  readonly late: ReadonlySet<string>;
}

/**
 * Asks the providers for all references at once. Who takes too long is waited for no longer, goes on, and
 * has its answer ready for the next question.
 *
 * @throws the signal's reason, if aborted.
 */
export async function loginsProvided(
  references: readonly string[],
  providers: LoginProviders,
  { timeoutMs, signal }: Scope & { timeoutMs: number },
): Promise<Provided> {
  const logins = new Map<string, readonly Login[]>();
  const late = new Set<string>();
  using deadline = new Deadline(timeoutMs, signal);
  await Promise.all(
    references.map(async (reference) => {
      const repository = parseReference(reference);
      if (!providers.isFor(repository)) return;
      try {
        logins.set(reference, await providers.loginsFor(repository, { signal: deadline.signal }));
      } catch (error) {
        if (signal.aborted || !deadline.hasPassed) throw error;
        late.add(reference);
      }
    }),
  );
  return { logins, late };
}

/** A name that is none is told of elsewhere. */
function repositoryOf(name: string): Repository | undefined {
  try {
    return parseRepository(name);
  } catch (error) {
    if (!(error instanceof InvalidReferenceError)) throw error;
    return undefined;
  }
}
