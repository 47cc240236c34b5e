import type { Clock } from "#async/clock.ts";
import type { ContentTarget } from "#oci/content.ts";
import type { Repository } from "#oci/reference.ts";
import { Budgets } from "#remote/budget.ts";
import type { UserLogins } from "#remote/docker-config.ts";
import type { ProxySettings } from "#remote/proxy.ts";
import { RegistryClient, type RegistryClientOptions } from "#remote/registry-client.ts";
import { silentLog } from "#telemetry/log.ts";
import { NamedRepository } from "./named-repository.ts";

export interface RegistriesOptions {
  readonly logins: UserLogins;
  readonly userAgent: string;
  readonly clock: Clock;
  /** Each `host[:port]` that speaks plain HTTP. */
  readonly plainHttp: readonly string[];
  /** Each `host[:port]` whose certificate is not looked at. */
  readonly insecure: readonly string[];
  /** Certificates in PEM that are trusted besides those that Node trusts. */
  readonly ca?: string | undefined;
  readonly proxies?: ProxySettings | undefined;
  /** Told when a registry wants to be left alone, in milliseconds since 1970 until when. */
  readonly onThrottled: (host: string, untilMs: number | undefined) => void;
}

/** Registries as the person at the keyboard may use them: with that person's logins, wherever they are. */
export class Registries implements AsyncDisposable {
  readonly #options: RegistriesOptions;
  readonly #insecure: ReadonlySet<string>;
  readonly #clients = new AsyncDisposableStack();
  readonly #careful: RegistryClient;
  readonly #careless: RegistryClient;

  constructor(options: RegistriesOptions) {
    const { userAgent, clock, plainHttp, ca, proxies, insecure } = options;
    this.#options = options;
    this.#insecure = new Set(insecure);
    const common: RegistryClientOptions = {
      userAgent,
      log: silentLog,
      clock,
      plainHttp,
      network: { allows: () => true }, // It is the user's own machine and network.
      proxies,
      budgets: new Budgets({ clock }),
      ...(ca !== undefined && { ca }),
    };
    this.#careful = this.#clients.use(new RegistryClient(common));
    this.#careless = this.#clients.use(new RegistryClient({ ...common, insecureSkipVerify: true }));
  }

  /**
   * Opens a repository, with the logins for it. Nothing is asked of its registry.
   *
   * @throws {CredentialHelperError}
   */
  async open(
    repository: Repository,
    { actions, signal }: { actions: "pull" | "pull,push"; signal: AbortSignal },
  ): Promise<ContentTarget> {
    const { registry, path } = repository;
    const { logins, onThrottled } = this.#options;
    const client = this.#insecure.has(registry) ? this.#careless : this.#careful;
    const opened = client.repository(`${registry}/${path}`, {
      logins: await logins.loginsFor(repository, { signal }),
      actions,
      onThrottled: (untilMs) => onThrottled(registry, untilMs),
    });
    return new NamedRepository(registry, opened);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#clients.disposeAsync();
  }
}
