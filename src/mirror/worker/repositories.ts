import { hash } from "node:crypto";

import type { MirrorShard, MirrorShardSpec } from "#api/v1/mirror-shard.ts";
import type { Clock } from "#async/clock.ts";
import { Deadline } from "#async/deadline.ts";
import type { Hosts } from "#mirror/host-slots.ts";
import type { ContentSource, ContentTarget } from "#oci/content.ts";
import { parseRepository } from "#oci/reference.ts";
import type { Login } from "#remote/keyring.ts";
import {
  RegistryClient,
  type RegistryClientOptions,
  type RepositoryOptions,
} from "#remote/registry-client.ts";
import { repositoryLogins, type LoginProviders } from "#secrets/repository-logins.ts";
import type { SecretProblem, SecretWatch } from "#secrets/secret-watch.ts";
import { ClientPool, type ClientSetup } from "./client-pool.ts";

type Scope = { signal: AbortSignal };

/** How long Secrets that have just been named are waited for. */
const secretsTimeoutMs = 10_000;

const noProviders = { loginsFor: () => Promise.resolve([]) };

/** A client as far as it is used here. Implemented by `RegistryClient`. */
export interface RepositoryClient extends AsyncDisposable {
  repository(name: string, options: RepositoryOptions): ContentTarget;
}

export interface RepositoriesOptions {
  readonly secrets: Pick<
    SecretWatch,
    "entriesFor" | "problemsOf" | "revisionOf" | "caOf" | "onChange"
  >;
  /** The operator's, for sources of every namespace. */
  readonly providers: Pick<LoginProviders, "loginsFor">;
  /** Each `host[:port]` to which every namespace may push with the operator's logins. */
  readonly providersPushTo: readonly string[];
  readonly clock: Clock;
  /** Each `host[:port]` that the operator says speaks plain HTTP. */
  readonly plainHttp: readonly string[];
  /** Makes a client. All should share one `Budgets` and one network policy. */
  readonly connect: (setup: ClientSetup) => RepositoryClient;
}

/** The two sides of a shard, to be used until they are disposed. */
export interface OpenedShard extends Disposable {
  readonly source: ContentSource;
  readonly target: ContentTarget;
  /** Of the target, as its registry names it. */
  readonly path: string;
  /** What bounds count by: of the source, host and login. */
  readonly hosts: Hosts;
}

/** A Secret without which nothing can be begun. */
export class SecretError extends Error {
  override readonly name = "SecretError";
  readonly code = "SECRET_INVALID";
  readonly retryable = false;
  readonly reason: string;

  constructor(name: string, message: string) {
    super(`Cannot use Secret "${name}": ${message}`);
    this.reason = `Secret "${name}" ${message}`;
  }
}

/** Makes clients that share all but how they speak to registries. */
export function connecting(
  options: Omit<RegistryClientOptions, "plainHttp" | "ca" | "insecureSkipVerify">,
): (setup: ClientSetup) => RegistryClient {
  return (setup) => new RegistryClient({ ...options, ...setup });
}

/**
 * Opens what shards copy from and to: sources with the logins of their `imagePullSecrets`, targets with those
 * of their `pushSecret`, and never the other way round; then with what the operator's providers give. To
 * targets they give something only where the operator says so: who may make Mirrors could else write
 * whatever he likes wherever the operator may.
 *
 * Logins are read anew each time: one that was rotated serves from the next run on.
 */
export class Repositories implements AsyncDisposable {
  readonly #options: RepositoriesOptions;
  readonly #clients: ClientPool<RepositoryClient>;

  constructor(options: RepositoriesOptions) {
    const { connect: make, clock } = options;
    this.#options = options;
    this.#clients = new ClientPool({ make, clock });
  }

  /** What is wrong with the Secrets that a shard names. Nothing of what they hold is in it. */
  problemsOf({ metadata: { namespace = "" }, spec }: MirrorShard): readonly SecretProblem[] {
    const { pull, push, ca } = secretsOf(spec);
    return this.#options.secrets.problemsOf(namespace, [...pull, ...push], { ca });
  }

  /**
   * Opens a shard. Nothing is asked of the registries yet.
   *
   * @param options.onThrottled - told, in milliseconds since 1970, until when a registry wants to be left alone.
   * @throws {InvalidReferenceError}
   * @throws {SecretError} if there is no certificate where one is to be trusted.
   */
  async open(
    { metadata: { namespace = "" }, spec }: MirrorShard,
    { onThrottled, signal }: Scope & { onThrottled: (untilMs: number) => void },
  ): Promise<OpenedShard> {
    const [source, target] = [spec.source, spec.target].map(parseRepository);
    if (!source || !target) throw new TypeError("A shard has a source and a target");
    const { secrets, providers, providersPushTo, plainHttp } = this.#options;
    // Nor where whoever made the Mirror says to whom it is shown: without TLS, or by an authority of his own.
    const mayPush = providersPushTo.includes(target.registry) && !spec.tls;
    const pushProviders = mayPush ? providers : noProviders;
    const names = secretsOf(spec);
    await this.#settle(namespace, [...names.pull, ...names.push, ...listOf(names.ca)], { signal });
    const [pull, push] = await Promise.all([
      repositoryLogins(
        source,
        { entries: secrets.entriesFor(namespace, names.pull), providers },
        { signal },
      ),
      repositoryLogins(
        target,
        { entries: secrets.entriesFor(namespace, names.push), providers: pushProviders },
        { signal },
      ),
    ]);
    const setup = this.#setupOf(namespace, spec, target.registry);
    using stack = new DisposableStack();
    const from = stack.use(this.#clients.use({ plainHttp })).client;
    const to = stack.use(this.#clients.use(setup)).client;
    const note = (untilMs: number | undefined): void => {
      if (untilMs !== undefined) onThrottled(untilMs);
    };
    const opened = {
      source: from.repository(spec.source, { logins: pull, onThrottled: note }),
      target: to.repository(spec.target, {
        logins: push,
        // Some realms give no token at all to who asks for more than he may.
        actions: spec.removals?.length ? "pull,push,delete" : "pull,push",
        onThrottled: note,
      }),
      path: target.path,
      hosts: {
        source: accountKey(source.registry, pull),
        target: target.registry,
        parties: [namespace, JSON.stringify([namespace, spec.mirror])],
      },
    };
    const lent = stack.move();
    return { ...opened, [Symbol.dispose]: () => lent.dispose() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#clients[Symbol.asyncDispose]();
  }

  /** Waits until all Secrets have been read once, but not for long: some may never be. */
  async #settle(namespace: string, names: readonly string[], { signal }: Scope): Promise<void> {
    const { secrets } = this.#options;
    const areRead = (): boolean => secrets.revisionOf(namespace, names) !== undefined;
    if (areRead()) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    using _ = secrets.onChange(() => {
      if (areRead()) resolve();
    });
    using deadline = new Deadline(secretsTimeoutMs, signal);
    const end = (): void => (deadline.hasPassed ? resolve() : reject(signal.reason));
    deadline.signal.addEventListener("abort", end, { once: true });
    if (areRead()) resolve();
    await promise;
  }

  /** Without `tls` it is as the operator says; with it, as the Mirror says, and not otherwise. */
  #setupOf(namespace: string, { tls }: MirrorShardSpec, registry: string): ClientSetup {
    const { secrets, plainHttp } = this.#options;
    if (!tls) return { plainHttp };
    const others = plainHttp.filter((host) => host !== registry);
    if (tls.plainHTTP) return { plainHttp: [...others, registry] };
    const { caSecret, insecureSkipVerify } = tls;
    if (!caSecret) return { plainHttp: others, insecureSkipVerify };
    const ca = secrets.caOf(namespace, caSecret.name);
    if (ca === undefined) throw new SecretError(caSecret.name, "has no ca.crt that can be used");
    return { plainHttp: others, ca, insecureSkipVerify };
  }
}

/** Who has another login has another quota, and must not wait for others. It stays in memory. */
function accountKey(registry: string, [login]: readonly Login[]): string {
  if (!login) return registry;
  return `${registry} ${hash("sha256", JSON.stringify(login)).slice(0, 16)}`;
}

function secretsOf({ imagePullSecrets, pushSecret, tls }: MirrorShardSpec): {
  pull: readonly string[];
  push: readonly string[];
  ca: string | undefined;
} {
  return {
    pull: imagePullSecrets.map(({ name }) => name),
    push: listOf(pushSecret?.name),
    ca: tls?.caSecret?.name,
  };
}

function listOf(name: string | undefined): readonly string[] {
  return name === undefined ? [] : [name];
}
