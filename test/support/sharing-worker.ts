import { setImmediate } from "node:timers/promises";

import type { RegistryBudget } from "#api/v1/registry-budget.ts";
import { registryBudgets } from "#api/v1/resources.ts";
import type { Clock } from "#async/clock.ts";
import { KubeClient } from "#kube/client.ts";
import { Informer } from "#kube/informer.ts";
import { SharedBudgets, type SharedBudgetsOptions } from "#mirror/worker/shared-budgets.ts";
import { Budgets, type Entry, type Permit } from "#remote/budget.ts";
import { silentLog } from "#telemetry/log.ts";
import type { FakeApiServer } from "./fake-api-server.ts";

const namespace = "coral-system";

/** Counts the calls that are under way. */
class CountedClient {
  readonly #client: KubeClient;
  calls = 0;

  constructor(client: KubeClient) {
    this.#client = client;
  }

  /** What budgets are written with. */
  get writer(): SharedBudgetsOptions["client"] {
    return {
      create: (...args) => this.#count(this.#client.create(...args)),
      replace: (...args) => this.#count(this.#client.replace(...args)),
      delete: (...args) => this.#count(this.#client.delete(...args)),
    };
  }

  async #count<T>(call: Promise<T>): Promise<T> {
    this.calls++;
    try {
      return await call;
    } finally {
      this.calls--;
    }
  }
}

/** A mirror worker as far as it asks registries and shares what they say. */
export class SharingWorker implements AsyncDisposable {
  readonly budgets: Budgets;
  readonly informer: Informer<RegistryBudget>;
  readonly #server: FakeApiServer;
  readonly #kube: KubeClient;
  readonly #client: CountedClient;
  readonly #stop = new AbortController();
  readonly #running: Promise<void[]>;

  private constructor(
    server: FakeApiServer,
    { clock, ...options }: Partial<SharedBudgetsOptions> & { clock: Clock },
  ) {
    this.#server = server;
    this.#kube = new KubeClient({ config: server.config, log: silentLog, userAgent: "test/1" });
    this.#client = new CountedClient(this.#kube);
    const log = silentLog;
    const { signal } = this.#stop;
    const resource = registryBudgets;
    this.informer = new Informer({ client: this.#kube, resource, namespace, log, clock });
    const shared = new SharedBudgets({
      client: this.#client.writer,
      budgetInformer: this.informer,
      membership: { members: new Set() },
      identity: "a",
      namespace,
      nameOf: plainName,
      clock,
      log,
      random: () => 0,
      ...options,
    });
    this.budgets = new Budgets({ clock, random: () => 0, exchange: shared });
    this.#running = Promise.all([this.informer.run(signal), shared.run(signal)]);
  }

  /** Starts one, alone and called `a` unless told otherwise. It has read what is shared so far. */
  static async start(
    server: FakeApiServer,
    options: Partial<SharedBudgetsOptions> & { clock: Clock },
  ): Promise<SharingWorker> {
    const worker = new SharingWorker(server, options);
    await worker.informer.synced({ signal: worker.#stop.signal });
    return worker;
  }

  /** Asks to send a request that counts to `hub.test`, without a login unless told otherwise. */
  enter(entry: Partial<Entry> = {}): Promise<Permit> {
    const { signal } = this.#stop;
    const asked = { host: "hub.test", login: undefined, lane: "read", counts: true } as const;
    return this.budgets.enter({ ...asked, signal, ...entry });
  }

  /** Whether all that it had to write at this time is written, and it has heard all that is. */
  get isSettled(): boolean {
    const stored = this.#server.list(registryBudgets);
    const heard = this.informer.list();
    return this.#client.calls === 0 && versionsOf(stored) === versionsOf(heard);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error("The test is over"));
    await this.#running;
    await this.#kube[Symbol.asyncDispose]();
  }
}

/** Waits until workers have told and heard all that there is at this time. */
export async function settle(workers: readonly SharingWorker[]): Promise<void> {
  for (let settled = 0; settled < 2;) {
    await setImmediate();
    settled = workers.every(({ isSettled }) => isSettled) ? settled + 1 : 0;
  }
}

function versionsOf(objects: readonly object[]): string {
  const versions = objects.map((object) =>
    JSON.stringify(object, ["metadata", "name", "resourceVersion"]),
  );
  return versions.sort().join();
}

/** A name at once, and one that can be read. */
function plainName({ host, login }: { host: string; login: Entry["login"] }): Promise<string> {
  const who = login && "username" in login ? login.username : "anybody";
  return Promise.resolve(`${host}.${who}`);
}
