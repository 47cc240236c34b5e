import { addAbortListener } from "node:events";

import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { Clock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import type { KubeClient } from "#kube/client.ts";
import { Informer } from "#kube/informer.ts";
import type { Log } from "#telemetry/log.ts";
import { ImageIndex } from "./image-index.ts";
import { digestKey, imageKeys, repositoryOf } from "./image-keys.ts";
import type { ImageUsers } from "./removals.ts";
import { imageUserResources, type ImageUser } from "./workload-kinds.ts";

/** Whoever turns removal off and on again must not have all pods of the cluster read each time. */
const lingerMs = 10 * 60_000;

export interface WorkloadImagesOptions {
  client: Pick<KubeClient, "listRaw" | "watch" | "watchError">;
  /** Images that agents are to have. */
  plans: Pick<Informer<ImagePlan>, "onChange">;
  clock: Clock;
  log: Log;
  /** Told of each Mirror for which somebody came to refer to something, or ceased to. */
  onChange: (mirror: string) => void;
}

/**
 * Knows which images the cluster refers to: all pods, everything that pods are made of, and Coral's Images. It
 * watches them only while a Mirror needs to know.
 */
export class WorkloadImages {
  readonly #options: WorkloadImagesOptions;
  /** By Mirror, the keys of the repositories that it asks about. */
  readonly #wants = new Map<string, readonly string[]>();
  readonly #byRepository = new Map<string, Set<string>>();
  #users: ImageUsers | undefined;
  #wake = Promise.withResolvers<void>();

  constructor(options: WorkloadImagesOptions) {
    this.#options = options;
  }

  /** Who refers to what; `undefined` while not everything is known. */
  get users(): ImageUsers | undefined {
    return this.#users;
  }

  /** Notes which repositories a Mirror asks about, in place of those before; `undefined` if it needs nothing. */
  want(mirror: string, repositories: readonly string[] | undefined): void {
    for (const repository of this.#wants.get(mirror) ?? []) {
      const mirrors = this.#byRepository.get(repository);
      mirrors?.delete(mirror);
      if (mirrors?.size === 0) this.#byRepository.delete(repository);
    }
    if (!repositories) {
      this.#wants.delete(mirror);
    } else {
      this.#wants.set(mirror, repositories);
      for (const repository of repositories) {
        const mirrors = this.#byRepository.get(repository) ?? new Set();
        this.#byRepository.set(repository, mirrors.add(mirror));
      }
    }
    this.#wake.resolve();
  }

  /** Watches while it is wanted, until aborted. Call it once. */
  async run(signal: AbortSignal): Promise<void> {
    using _ = addAbortListener(signal, () => this.#wake.resolve());
    while (!signal.aborted) {
      await this.#until(() => this.#wants.size > 0, signal);
      if (!signal.aborted) await this.#watch(signal);
    }
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const { client, plans, clock, log } = this.#options;
    await using group = new TaskGroup(signal);
    using listeners = new DisposableStack();
    listeners.defer(() => (this.#users = undefined));
    const index = new ImageIndex((repository) => this.#tell(repository));
    const informers = imageUserResources().map((resource) => {
      const informer = new Informer<ImageUser>({ client, resource, clock, log });
      listeners.use(
        informer.onChange(({ type, key, object }) => {
          index.set(resource.kind, key, type === "deleted" ? [] : object.images);
        }),
      );
      return informer;
    });
    listeners.use(
      plans.onChange(({ type, key, object }) => {
        index.set("Image", key, type === "deleted" ? [] : imagesOf(object));
      }),
    );
    const running = informers.map((informer) => group.run((scope) => informer.run(scope)));
    const synced = Promise.all(informers.map((informer) => informer.synced(group)));
    try {
      await Promise.race([synced, ...running]);
      if (signal.aborted) return;
      log.info("workloads are watched, since copies may be removed");
      this.#users = index;
      for (const mirror of this.#wants.keys()) this.#options.onChange(mirror);
      await this.#untilUnwanted(signal);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  #tell(repository: string): void {
    if (!this.#users) return; // All are told as soon as everything is known.
    for (const mirror of this.#byRepository.get(repository) ?? []) this.#options.onChange(mirror);
  }

  async #untilUnwanted(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#until(() => this.#wants.size === 0, signal);
      await this.#options.clock.sleep(lingerMs, { signal });
      if (this.#wants.size === 0) return;
    }
  }

  async #until(isTrue: () => boolean, signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !isTrue()) {
      this.#wake = Promise.withResolvers();
      await this.#wake.promise;
    }
  }
}

function imagesOf({ spec }: ImagePlan): string[] {
  return spec.images.flatMap(({ reference, digest }) => {
    const keys = imageKeys(reference);
    const [key] = keys;
    if (key === undefined || digest === undefined) return keys;
    return [...new Set([...keys, digestKey(repositoryOf(key), digest)])];
  });
}
