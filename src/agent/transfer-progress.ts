import type { Ingest } from "#cri/runtime-client.ts";

/** A pull whose progress is followed. */
export interface FollowedPull {
  /** The blobs that it consists of, once that is known. */
  blobs?: ReadonlySet<string>;
  /** Whether anything came that is, or may be, its own. */
  hasBegun: boolean;
  /** When it last went on, as far as can be told, in milliseconds since 1970. */
  lastMs: number;
}

/**
 * Tells from the runtime's downloads which pulls go on, by looking at them again and again.
 *
 * A pull goes on if a blob of it appears, grows or is done; and also while it downloads nothing after
 * it had begun: then its layers are unpacked. Whose a download is, is certain if the pull's blobs are
 * known. Else every pull that may own it is given the benefit of the doubt: it counts for progress,
 * and against nobody once one of those pulls has ended and may have left it behind.
 */
export class TransferProgress {
  readonly #pulls = new Set<FollowedPull>();
  /** By download: how far it was at the last look. */
  #offsets: ReadonlyMap<string, number> | undefined;
  /** By download that nobody's blobs name: who may have moved it. */
  readonly #movers = new Map<string, Set<FollowedPull>>();

  follow(nowMs: number): FollowedPull {
    if (this.#pulls.size === 0) this.#offsets = undefined; // What was left behind meanwhile is nobody's.
    const pull: FollowedPull = { hasBegun: false, lastMs: nowMs };
    this.#pulls.add(pull);
    return pull;
  }

  forget(pull: FollowedPull): void {
    this.#pulls.delete(pull);
    if (this.#pulls.size === 0) this.#movers.clear();
  }

  /** Counts from now for every pull: nobody could see what came meanwhile. */
  excuse(nowMs: number): void {
    for (const pull of this.#pulls) pull.lastMs = nowMs;
  }

  /** Takes note of all downloads as they are now. */
  observe(ingests: readonly Ingest[], nowMs: number): void {
    const before = this.#offsets;
    const offsets = new Map(ingests.map(({ ref, offsetBytes }) => [ref, offsetBytes]));
    this.#offsets = offsets;
    const moved = before
      ? [...new Set([...before.keys(), ...offsets.keys()])].filter(
          (ref) => before.get(ref) !== offsets.get(ref),
        )
      : [];
    const pulls = [...this.#pulls];
    const isClaimed = (ref: string): boolean =>
      pulls.some(({ blobs }) => blobs?.has(digestIn(ref)) ?? false);
    const isOf = ({ blobs }: FollowedPull, ref: string): boolean =>
      blobs ? blobs.has(digestIn(ref)) : !isClaimed(ref);

    for (const ref of this.#movers.keys()) if (!offsets.has(ref)) this.#movers.delete(ref);
    for (const pull of pulls) {
      const own = moved.filter((ref) => isOf(pull, ref));
      if (own.length > 0) {
        pull.hasBegun = true;
        pull.lastMs = nowMs;
        if (!pull.blobs) for (const ref of own) this.#noteMover(ref, pull, offsets);
      } else if (!this.#isDownloading(pull, offsets, isOf) && (pull.hasBegun || pull.blobs)) {
        pull.lastMs = nowMs; // It unpacks.
      }
    }
  }

  #noteMover(ref: string, pull: FollowedPull, offsets: ReadonlyMap<string, number>): void {
    if (!offsets.has(ref)) return;
    this.#movers.set(ref, (this.#movers.get(ref) ?? new Set()).add(pull));
  }

  #isDownloading(
    pull: FollowedPull,
    offsets: ReadonlyMap<string, number>,
    isOf: (pull: FollowedPull, ref: string) => boolean,
  ): boolean {
    return offsets.keys().some((ref) => {
      if (!isOf(pull, ref)) return false;
      if (pull.blobs) return true;
      const movers = this.#movers.get(ref);
      return movers?.has(pull) === true && [...movers].every((other) => this.#pulls.has(other));
    });
  }
}

/** The digest of the blob that a download brings: its name is like `layer-sha256:…`. */
function digestIn(ref: string): string {
  return ref.slice(ref.indexOf("-") + 1);
}
