import type { MirrorShard, MirrorShardStatus } from "#api/v1/mirror-shard.ts";
import { mirrorShards } from "#api/v1/resources.ts";
import type { KubeClient } from "#kube/client.ts";
import { ConflictError } from "#kube/errors.ts";
import { keyOf } from "#kube/key.ts";
import { mayGoOn } from "./shard-facts.ts";

type Scope = { signal: AbortSignal };

/** How often one write may meet somebody else's, who changed something that does not matter. */
const maxAttempts = 4;

/** How long a run that ends early tries to say so. */
const releaseMs = 2_000;

export interface ShardWriterOptions {
  readonly client: Pick<KubeClient, "get" | "replace">;
  /** Of this worker. */
  readonly identity: string;
}

/**
 * Writes the status of a shard during one run. What it knows of the shard is what the caller knew when the
 * run began: if somebody else was first, the first write is refused, and so is the run.
 *
 * Every method throws what the API server's client throws, and the signal's reason if aborted.
 */
export class ShardWriter {
  readonly #options: ShardWriterOptions;
  readonly #begun: MirrorShard;
  #shard: MirrorShard;
  #claim: Promise<void> | undefined;
  #isClaimed = false;

  constructor(shard: MirrorShard, options: ShardWriterOptions) {
    this.#shard = shard;
    this.#begun = shard;
    this.#options = options;
  }

  /** Whether the shard says that this worker is at it. */
  get isClaimed(): boolean {
    return this.#isClaimed;
  }

  /**
   * Says, with the first write, that this worker is at it. Asking for it again waits for the same write, unless
   * that has failed.
   *
   * @param status - names the worker.
   * @throws {ConflictError} if somebody else has written since the caller's version.
   */
  async claim(status: () => MirrorShardStatus, { signal }: Scope): Promise<void> {
    this.#claim ??= this.#writeClaim(status(), { signal });
    return this.#claim;
  }

  /**
   * Writes a status in the middle of a run, which is claimed.
   *
   * @throws {ConflictError} if the shard is somebody else's by now, or is to be done otherwise.
   */
  async update(status: MirrorShardStatus, { signal }: Scope): Promise<void> {
    await this.#writeOwn(status, { signal, isBound: true });
  }

  /** Writes the last status of a run, be it claimed or not. It must not name a worker. */
  async finish(status: MirrorShardStatus, { signal }: Scope): Promise<void> {
    if (this.#isClaimed) await this.update(status, { signal });
    else await this.#write(status, { signal });
    this.#isClaimed = false;
  }

  /**
   * Lets a claimed shard go before its run has ended, so that others need not wait until this worker is dead.
   * It tries for two seconds, whatever has been aborted; else the worker's Lease tells, some time.
   */
  async release(status: MirrorShardStatus): Promise<void> {
    if (!this.#isClaimed) return;
    await this.#writeOwn(status, { signal: AbortSignal.timeout(releaseMs), isBound: false });
    this.#isClaimed = false;
  }

  async #writeClaim(status: MirrorShardStatus, { signal }: Scope): Promise<void> {
    try {
      await this.#write(status, { signal });
      this.#isClaimed = true;
    } catch (error) {
      this.#claim = undefined;
      throw error;
    }
  }

  /** @param options.isBound - whether the run must be one that may go on. */
  async #writeOwn(
    status: MirrorShardStatus,
    { signal, isBound }: Scope & { isBound: boolean },
  ): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#write(status, { signal });
      } catch (error) {
        if (!(error instanceof ConflictError) || attempt === maxAttempts) throw error;
        const current = await this.#options.client.get(mirrorShards, keyOf(this.#shard), {
          signal,
        });
        const isOwn =
          current?.metadata.uid === this.#shard.metadata.uid &&
          current?.status?.worker === this.#options.identity;
        if (!current || !isOwn) {
          this.#isClaimed = false;
          throw error;
        }
        this.#shard = current;
        if (isBound && !mayGoOn(this.#begun, current)) throw error;
      }
    }
  }

  async #write(status: MirrorShardStatus, { signal }: Scope): Promise<void> {
    const shard = { ...this.#shard, status };
    this.#shard = await this.#options.client.replace(mirrorShards, shard, {
      subresource: "status",
      signal,
    });
  }
}
