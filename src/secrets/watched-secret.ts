import type { Clock } from "#async/clock.ts";
import { ApiError, ApiUnreachableError } from "#kube/errors.ts";
import { Informer } from "#kube/informer.ts";
import type { Log } from "#telemetry/log.ts";
import { keptSecrets, type KeptSecret } from "./kept-secret.ts";
import type { WatchClient } from "./watch-pool.ts";

/** What a watch of one Secret needs. */
export interface WatchDeps {
  client: WatchClient;
  clock: Clock;
  random?: () => number;
  log: Log;
}

/** How often in a row it may fail before the first answer until the rest goes on without it. */
const patience = 3;

/**
 * One Secret, watched by its name.
 *
 * `state` is `reading` at first. It ends in `unreadable` if the API server forbids it or fails over
 * and over, so that nobody waits for it for ever; it goes on trying all the same.
 */
export class WatchedSecret {
  readonly #key: string;
  readonly #informer: Informer<KeptSecret>;
  readonly #onChange: () => void;
  readonly #stop = new AbortController();
  #failures = 0;
  #isForbidden = false;

  constructor(
    { namespace, name }: { namespace: string; name: string },
    { client, ...deps }: WatchDeps,
    onChange: () => void,
  ) {
    this.#key = `${namespace}/${name}`;
    this.#onChange = onChange;
    this.#informer = new Informer({
      ...deps,
      client: {
        listRaw: (resource, options) => client.listRaw(resource, options),
        watch: (resource, options) => this.#attend(client.watch(resource, options)),
        watchError: (resource, status) => client.watchError(resource, status),
      },
      resource: keptSecrets,
      namespace,
      fieldSelector: `metadata.name=${name}`,
    });
    this.#informer.onChange(onChange);
  }

  get state(): "reading" | "unreadable" | "missing" | KeptSecret {
    if (this.#isForbidden) return "unreadable";
    if (this.#informer.hasSynced) return this.#informer.get(this.#key) ?? "missing";
    return this.#failures >= patience ? "unreadable" : "reading";
  }

  /** Follows the Secret until stopped or aborted. Call it once. */
  async run(signal: AbortSignal): Promise<void> {
    const either = AbortSignal.any([signal, this.#stop.signal]);
    // A Secret that is missing changes nothing when it has been looked for, but the state does.
    const told = this.#informer.synced({ signal: either }).then(this.#onChange, () => {});
    await this.#informer.run(either);
    await told;
  }

  stop(): void {
    this.#stop.abort(new Error("Nobody names the Secret any more"));
  }

  /** Looks how a watch fares, which an informer keeps to itself. */
  async *#attend<T>(events: AsyncIterable<T>): AsyncGenerator<T> {
    try {
      for await (const event of events) {
        this.#note({ failures: 0, isForbidden: false });
        yield event;
      }
    } catch (error) {
      const isForbidden = error instanceof ApiError && error.status === 403;
      if (error instanceof ApiError || error instanceof ApiUnreachableError) {
        this.#note({ failures: this.#failures + 1, isForbidden: isForbidden || this.#isForbidden });
      }
      throw error;
    }
  }

  #note({ failures, isForbidden }: { failures: number; isForbidden: boolean }): void {
    const before = this.state;
    this.#failures = failures;
    this.#isForbidden = isForbidden;
    if (this.state !== before) this.#onChange();
  }
}
