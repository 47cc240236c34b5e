import type { KubeClient, Selection, WatchEvent } from "#kube/client.ts";
import type { Resource } from "#kube/resource.ts";
import type { ApiError } from "#kube/errors.ts";
import type { KubeObject } from "#kube/types.ts";

/** What an informer needs of a client. */
export type WatchClient = Pick<KubeClient, "listRaw" | "watch" | "watchError">;

/** A client with a connection of its own, which ends with it. */
export type OwnClient = WatchClient & AsyncDisposable;

/**
 * Watches on one connection. An API server takes 100 streams on each (apiserver's
 * secure_serving.go), and a watch beyond that would wait without a word.
 */
const maxWatches = 64;

interface Member {
  readonly client: OwnClient;
  watches: number;
}

/** Spreads watches over connections, as many as it takes. */
export class WatchPool implements WatchClient, AsyncDisposable {
  readonly #connect: () => OwnClient;
  readonly #members: Member[] = [];

  constructor(connect: () => OwnClient) {
    this.#connect = connect;
  }

  async *watch(...args: Parameters<WatchClient["watch"]>): AsyncGenerator<WatchEvent> {
    const member = this.#member();
    member.watches++;
    try {
      yield* member.client.watch(...args);
    } finally {
      member.watches--;
    }
  }

  async listRaw(
    resource: Resource<KubeObject>,
    options: Selection & { signal: AbortSignal },
  ): Promise<{ items: unknown[]; resourceVersion: string }> {
    return this.#member().client.listRaw(resource, options);
  }

  watchError(resource: Resource<KubeObject>, status: unknown): ApiError {
    return this.#member().client.watchError(resource, status);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#members.map(({ client }) => client[Symbol.asyncDispose]()));
  }

  #member(): Member {
    const free = this.#members.find(({ watches }) => watches < maxWatches);
    if (free) return free;
    const member = { client: this.#connect(), watches: 0 };
    this.#members.push(member);
    return member;
  }
}
