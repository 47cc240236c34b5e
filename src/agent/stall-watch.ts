import type { Clock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import { UnsupportedError } from "#cri/rpc-error.ts";
import type { Ingest } from "#cri/runtime-client.ts";
import type { Log } from "#telemetry/log.ts";
import { BlobSearch } from "./blobs.ts";
import { PullStalledError } from "./failure.ts";
import { TransferProgress, type FollowedPull } from "./transfer-progress.ts";

/** How often the runtime is asked while anything is pulled. */
const pollMs = 5_000;

/** After so many failures, a registry that stays silent is given no more time than before. */
const mostPatience = 3;

/** What a runtime tells of its downloads. `#cri/runtime-client.ts` has the contract. */
export interface TransferSource {
  ingests(options: { signal: AbortSignal }): Promise<Ingest[]>;
  readBlob(digest: string, options: { signal: AbortSignal }): Promise<Uint8Array | undefined>;
}

export interface StallWatchOptions {
  transfers: TransferSource;
  /** How long a pull may go on without a byte, in milliseconds. */
  timeoutMs: number;
  clock: Clock;
  /** A clock that is never set. */
  monotonicMs?: () => number;
  log: Log;
}

/** A pull to watch. */
export interface WatchedPull {
  readonly reference: string;
  /** What its tag is known to name, or its own digest. */
  readonly digest?: string | undefined;
  /** How often it has failed before. */
  readonly attempts: number;
}

/**
 * Gives up pulls that get nothing.
 *
 * It asks the runtime only while there are pulls: one question for all of them every 5 s. A runtime
 * that cannot tell (only containerd can) leaves them to the timeout of pulls.
 */
export class StallWatch {
  readonly #options: StallWatchOptions;
  readonly #monotonicMs: () => number;
  readonly #progress = new TransferProgress();
  readonly #searches = new Map<FollowedPull, BlobSearch>();
  readonly #followed = new Map<string, FollowedPull>();
  #lookedMs = -Infinity;

  constructor(options: StallWatchOptions) {
    this.#options = options;
    this.#monotonicMs = options.monotonicMs ?? (() => performance.now());
  }

  /**
   * Does the work of a pull, and aborts it if it stalls.
   *
   * @throws {PullStalledError} if so; else what the work throws.
   */
  async guard<T>(
    pull: WatchedPull,
    work: (signal: AbortSignal) => Promise<T>,
    { signal }: { signal: AbortSignal },
  ): Promise<T> {
    await using group = new TaskGroup(signal);
    const result = group.run(work);
    void group.run((signal) => this.#watch(pull, signal)); // `result` tells how it fails.
    return await result;
  }

  /** Whether a pull has got nothing for half of the time after which it is given up. Not if nobody can tell. */
  isStill(reference: string): boolean {
    const { lastMs = Infinity } = this.#followed.get(reference) ?? {};
    return this.#monotonicMs() - lastMs >= this.#options.timeoutMs / 2;
  }

  async #watch(pull: WatchedPull, signal: AbortSignal): Promise<void> {
    const { clock, timeoutMs } = this.#options;
    const followed = this.#progress.follow(this.#monotonicMs());
    this.#followed.set(pull.reference, followed);
    if (pull.digest !== undefined) this.#searches.set(followed, new BlobSearch(pull.digest));
    try {
      for (;;) {
        if (!(await this.#look(signal))) return;
        const { hasBegun, blobs, lastMs } = followed;
        // Nothing has come: its registry may be silent, or all its blobs were there and are unpacked.
        // More patience each time, so that unpacking comes to an end some time.
        const isCertain = hasBegun || blobs !== undefined;
        const patience = isCertain ? 0 : Math.min(pull.attempts, mostPatience);
        const limitMs = timeoutMs * 2 ** patience;
        if (this.#monotonicMs() - lastMs >= limitMs) {
          throw new PullStalledError(pull.reference, limitMs);
        }
        await clock.sleep(pollMs, { signal });
      }
    } finally {
      this.#followed.delete(pull.reference);
      this.#searches.delete(followed);
      this.#progress.forget(followed);
    }
  }

  /** Looks at all downloads, unless another pull's watch has just done so. @returns false if it cannot. */
  async #look(signal: AbortSignal): Promise<boolean> {
    const { transfers, log } = this.#options;
    const nowMs = this.#monotonicMs();
    if (nowMs - this.#lookedMs < pollMs) return true;
    this.#lookedMs = nowMs;
    try {
      this.#progress.observe(await transfers.ingests({ signal }), this.#monotonicMs());
    } catch (error) {
      this.#lookedMs = -Infinity;
      signal.throwIfAborted();
      if (error instanceof UnsupportedError) return false;
      log.debug("downloads not seen", { error });
      this.#progress.excuse(this.#monotonicMs()); // What nobody saw may have come all the same.
      return true;
    }
    await this.#learnBlobs(signal);
    return true;
  }

  async #learnBlobs(signal: AbortSignal): Promise<void> {
    const { transfers, log } = this.#options;
    for (const [pull, search] of this.#searches) {
      try {
        const blobs = await search.look((digest) => transfers.readBlob(digest, { signal }));
        if (blobs) pull.blobs = blobs;
        else if (!search.isVain) continue;
      } catch (error) {
        // It is too large for a manifest. Its pull goes on unfollowed, and others' are followed.
        signal.throwIfAborted();
        log.debug("manifest not read", { digest: search.digest, error });
      }
      this.#searches.delete(pull);
    }
  }
}
