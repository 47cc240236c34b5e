import { hash } from "node:crypto";

import { Semaphore } from "#async/semaphore.ts";
import type { Repository } from "#oci/reference.ts";
import type { Log } from "#telemetry/log.ts";
import type { Counter, Registry } from "#telemetry/metrics.ts";
import { isWithin, loginsFor, type Login } from "./keyring.ts";
import { ProviderAnswers, type Ask, type ProviderSlots } from "./provider-answers.ts";
import type { CredentialProvider } from "./provider-config.ts";
import { askProvider, type AskOptions } from "./provider-program.ts";

/** Programs at the same time, of each kind of {@link ProviderSlots}. */
const maxPrograms = 2;

type Scope = { signal: AbortSignal };

export interface CredentialProvidersOptions extends Pick<AskOptions, "folder" | "environment"> {
  providers: readonly CredentialProvider[];
  log: Log;
  metrics: Registry;
  /** Longest run of a program: 60 s if not given, as the kubelet grants it. */
  timeoutMs?: number;
  monotonicMs?: () => number;
}

/**
 * Gives logins by programs in the kubelet's format of credential providers, such as clouds have for
 * their registries (ECR, GAR, ACR). Whose identity they use is the environment's business.
 *
 * Which images a program is asked for stands in the operator's file alone, and its login goes to no
 * other host than the program gave it for. A program that fails gives no login, and is asked again
 * after a while: as for the kubelet, an image may be public after all.
 *
 * ```ts
 * const providers = await readProviders({ file, folder });
 * await using clouds = new CredentialProviders({ providers, folder, environment, log, metrics });
 * const logins = await clouds.loginsFor(parseReference("1.dkr.ecr.eu-west-1.amazonaws.com/a"), { signal });
 * ```
 */
export class CredentialProviders implements AsyncDisposable {
  readonly #providers: readonly { config: CredentialProvider; answers: ProviderAnswers }[];
  readonly #life = new AbortController();

  /**
   * Changes with the providers that are set up. Their variables have no part in it: a secret in them
   * could be guessed from it.
   */
  readonly revision: string;

  constructor(options: CredentialProvidersOptions) {
    const { providers, log, metrics } = options;
    const { monotonicMs = (): number => performance.now() } = options;
    const slots: ProviderSlots = {
      proven: new Semaphore(maxPrograms),
      unproven: new Semaphore(maxPrograms),
    };
    const runs = metrics.counter({
      name: "coral_credential_provider_runs_total",
      help: "Runs of credential providers' programs.",
      labels: { result: ["ok", "error"] },
    });
    this.#providers = providers.map((config) => {
      const { name, defaultCacheMs } = config;
      const own = log.child({ provider: name });
      const answers = new ProviderAnswers({
        ask: asking(config, { ...options, runs, log: own }),
        slots,
        defaultCacheMs,
        onFailure: ({ registry }, error) =>
          own.warn("no login from a provider", { registry, error }),
        monotonicMs,
      });
      return { config, answers };
    });
    const parts = providers.map(({ name, places, args, env }) => {
      return [name, places, args, Object.keys(env)];
    });
    this.revision = hash("sha256", JSON.stringify(parts)).slice(0, 16);
  }

  /** Whether some provider is to be asked for a repository. */
  isFor(repository: Repository): boolean {
    return this.#providers.some(({ config }) => isOf(config, repository));
  }

  /**
   * The logins that may be shown to a repository's registry, the most fitting first. The first question
   * may take as long as a program runs, later ones nothing.
   *
   * @throws the signal's reason, if aborted; what runs goes on, for whoever asks next.
   */
  async loginsFor(repository: Repository, { signal }: Scope): Promise<Login[]> {
    const life = this.#life.signal;
    const its = this.#providers.filter(({ config }) => isOf(config, repository));
    const entries = await Promise.all(
      its.map(({ answers }) => answers.entriesFor(repository, { signal, life })),
    );
    return loginsFor(repository, entries.flat());
  }

  /** Ends the programs that run, and whoever waits for them. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#life.abort(new Error("The credential providers end"));
    await Promise.all(this.#providers.map(({ answers }) => answers.settled()));
  }
}

function isOf({ places }: CredentialProvider, repository: Repository): boolean {
  return places.some((place) => isWithin(repository, place));
}

interface AskingOptions extends Pick<AskOptions, "folder" | "environment"> {
  runs: Counter<{ result: readonly ["ok", "error"] }>;
  log: Log;
  timeoutMs?: number;
}

/** Runs a provider's program, and tells what of its answer is of no use. */
function asking(config: CredentialProvider, options: AskingOptions): Ask {
  const { runs, log, folder, environment, timeoutMs = 60_000 } = options;
  return async (repository, { signal }) => {
    try {
      const scope = { folder, environment, timeoutMs, signal };
      const response = await askProvider(config, repository, scope);
      runs.inc({ result: "ok" });
      const { problems } = response;
      if (problems.length > 0) log.warn("some logins of a provider are of no use", { problems });
      return response;
    } catch (error) {
      runs.inc({ result: "error" });
      throw error;
    }
  };
}
