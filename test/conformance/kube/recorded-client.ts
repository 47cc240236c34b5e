import type { KubeClient, WatchEvent } from "#kube/client.ts";
import type { InformerOptions } from "#kube/informer.ts";
import type { KubeObject } from "#kube/types.ts";

type Client = InformerOptions<KubeObject>["client"];

/** What one watch asked for, and what came of it. */
export interface SeenWatch {
  readonly query: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly events: WatchEvent[];
  hasEnded: boolean;
}

/** A client that keeps a record of what an informer asks and is told. */
export class RecordedClient implements Client {
  readonly #client: KubeClient;
  readonly watches: SeenWatch[] = [];
  lists = 0;

  constructor(client: KubeClient) {
    this.#client = client;
  }

  /** How each watch began: anew with every object, or where the one before ended. */
  get beginnings(): ("anew" | "resumed")[] {
    return this.watches.map(({ query }) => (query["sendInitialEvents"] ? "anew" : "resumed"));
  }

  listRaw(...args: Parameters<Client["listRaw"]>): ReturnType<Client["listRaw"]> {
    this.lists++;
    return this.#client.listRaw(...args);
  }

  async *watch(...args: Parameters<Client["watch"]>): AsyncGenerator<WatchEvent> {
    const seen: SeenWatch = { query: args[1].query, events: [], hasEnded: false };
    this.watches.push(seen);
    try {
      for await (const event of this.#client.watch(...args)) {
        seen.events.push(event);
        yield event;
      }
    } finally {
      seen.hasEnded = true;
    }
  }

  watchError(...args: Parameters<Client["watchError"]>): ReturnType<Client["watchError"]> {
    return this.#client.watchError(...args);
  }
}
