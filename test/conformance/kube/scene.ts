import assert from "node:assert/strict";

import { systemClock } from "#async/clock.ts";
import { KubeClient } from "#kube/client.ts";
import type { ClusterConfig } from "#kube/cluster-config.ts";
import { ApiError } from "#kube/errors.ts";
import { Informer } from "#kube/informer.ts";
import { formatKey, type ObjectKey } from "#kube/key.ts";
import type { Change } from "#kube/object-cache.ts";
import type { Resource } from "#kube/resource.ts";
import type { KubeObject } from "#kube/types.ts";
import { silentLog } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import { Link } from "./link.ts";
import { RecordedClient } from "./recorded-client.ts";
import { until } from "./until.ts";

/** Looks sooner than a node does, and waits long enough for a machine that is busy with tests. */
const timing = { pingIntervalMs: 300, pingTimeoutMs: 1_000, connectTimeoutMs: 2_000 };

/** A kind to watch, and how the watch picks some of its objects. */
export interface Subject {
  readonly title: string;
  readonly resource: Resource<KubeObject>;
  /** Makes the key of an object that the selection picks. */
  key(scenario: string): ObjectKey;
  build(key: ObjectKey, labels: Record<string, string>): KubeObject;
  selection(scenario: string): { fieldSelector?: string; labelSelector?: string };
}

/** An informer behind a link that can break, and hands that change its object past that link. */
export class Scene implements AsyncDisposable {
  readonly link: Link;
  readonly recorded: RecordedClient;
  readonly #subject: Subject;
  readonly #scenario: string;
  readonly #key: ObjectKey;
  readonly #signal: AbortSignal;
  readonly #metrics = new Registry();
  readonly #client: KubeClient;
  readonly #hands: KubeClient;
  readonly #informer: Informer<KubeObject>;
  readonly #told: string[] = [];
  readonly #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #noises = 0;

  static async open(
    config: ClusterConfig,
    subject: Subject,
    scenario: string,
    signal: AbortSignal,
    watchTimeoutMs?: number,
  ): Promise<Scene> {
    const link = await Link.to(config.server);
    return new Scene(config, link, subject, scenario, signal, watchTimeoutMs);
  }

  private constructor(
    config: ClusterConfig,
    link: Link,
    subject: Subject,
    scenario: string,
    signal: AbortSignal,
    watchTimeoutMs: number | undefined,
  ) {
    const common = { log: silentLog, userAgent: "suite/1", timing };
    const behind = { ...config, server: link.url };
    this.link = link;
    this.#scenario = scenario;
    this.#subject = subject;
    this.#key = subject.key(scenario);
    this.#signal = signal;
    this.#hands = new KubeClient({ ...common, config });
    this.#client = new KubeClient({ ...common, config: behind, metrics: this.#metrics });
    this.recorded = new RecordedClient(this.#client);
    this.#informer = new Informer({
      client: this.recorded,
      resource: subject.resource,
      log: silentLog,
      clock: systemClock,
      ...subject.selection(scenario),
      ...(watchTimeoutMs !== undefined && { watchTimeoutMs }),
    });
    this.#informer.onChange((change) => this.#hear(change));
  }

  async sync(): Promise<void> {
    this.#running = this.#informer.run(this.#stop.signal);
    await this.#informer.synced({ signal: this.#signal });
  }

  async create(labels: Record<string, string>): Promise<void> {
    const object = this.#subject.build(this.#key, { ...labels, scenario: this.#scenario });
    await this.#persist((signal) => this.#hands.create(this.#subject.resource, object, { signal }));
  }

  async label(v: string): Promise<void> {
    const body = { metadata: { labels: { v } } };
    await this.#persist((signal) =>
      this.#hands.patch(this.#subject.resource, this.#key, { type: "merge", body, signal }),
    );
  }

  async delete(): Promise<void> {
    await this.#persist((signal) =>
      this.#hands.delete(this.#subject.resource, this.#key, { signal }),
    );
  }

  /** Changes an object of the kind that the informer does not select. */
  async noise(): Promise<void> {
    const key = { ...this.#key, name: `noise-${this.#scenario}-${++this.#noises}` };
    const object = this.#subject.build(key, {});
    await this.#persist((signal) => this.#hands.create(this.#subject.resource, object, { signal }));
    await this.#persist((signal) => this.#hands.delete(this.#subject.resource, key, { signal }));
  }

  /** Waits until the informer has told this, changes of other things than `v` aside. */
  async tells(wanted: readonly string[]): Promise<void> {
    const isTold = (): boolean => String(this.#told) === String(wanted);
    const scope = { signal: this.#signal };
    await until(`${String(wanted)} is told`, isTold, scope).catch(() => {});
    assert.deepEqual(this.#told, wanted);
  }

  async shows(v: string): Promise<void> {
    const isShown = (): boolean => this.#informer.get(this.#key)?.metadata.labels?.["v"] === v;
    await until(`the cache shows ${v}`, isShown, { signal: this.#signal });
  }

  /** Waits until no watch is in progress. */
  async watchEnds(): Promise<void> {
    const hasEnded = (): boolean => this.recorded.watches.every((watch) => watch.hasEnded);
    await until("the watch ends", hasEnded, { signal: this.#signal });
  }

  /** What the client counted, as lines of its metrics. */
  requestsOtherThanWatches(): string[] {
    const lines = this.#metrics.render().split("\n");
    return lines.filter(
      (line) => /^coral_kube_requests.*[1-9]$/.test(line) && !/"watch"/.test(line),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#persist((signal) =>
      this.#hands.delete(this.#subject.resource, this.#key, { signal }),
    );
    await this.#client[Symbol.asyncDispose]();
    await this.#hands[Symbol.asyncDispose]();
    await this.link[Symbol.asyncDispose]();
  }

  #hear({ type, key, object }: Change<KubeObject>): void {
    assert.equal(key, formatKey(this.#key));
    const line = `${type} ${object.metadata.labels?.["v"]}`;
    // A real cluster's controllers change a Node too.
    if (line.replace("updated", "added") !== this.#told.at(-1)?.replace("updated", "added")) {
      this.#told.push(line);
    }
  }

  /** Writes through an API server that may just be starting. */
  async #persist(write: (signal: AbortSignal) => Promise<unknown>): Promise<void> {
    const attempt = async (): Promise<boolean> => {
      try {
        await write(this.#signal);
        return true;
      } catch (error) {
        // Until its informers are warm, a real API server refuses what it would else allow.
        const isStarting = error instanceof ApiError && error.status === 403;
        if (isStarting || (error instanceof Error && "retryable" in error && error.retryable)) {
          return false;
        }
        throw error;
      }
    };
    await until("the write is done", attempt, { signal: this.#signal });
  }
}
