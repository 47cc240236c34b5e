import type { MirrorShardSpec, MirrorShardStatus } from "#api/v1/mirror-shard.ts";
import { maxRemovals } from "#api/v1/mirror-shard.ts";
import { formatTime } from "#api/v1/conditions.ts";
import type { TagAtTarget, TagResult } from "#mirror/copy-result.ts";
import type { ContentTarget } from "#oci/content.ts";
import { digestPattern } from "#oci/reference.ts";
import { parseGoDuration } from "#remote/go-duration.ts";
import type { Log } from "#telemetry/log.ts";
import type { RemovalFacts } from "./shard-status.ts";

type Scope = { signal: AbortSignal };

/** A copy that is no longer asked for. */
export interface Leftover {
  readonly tag: string;
  readonly digest: string;
  readonly unselectedSince: Date;
}

/** Who wrote copies. */
export interface Owner {
  readonly cluster: string;
  readonly namespace: string;
  readonly mirror: string;
}

/** What is recorded, at a destination, of what somebody wrote there. Implemented by `Ownership`. */
export interface OwnershipRecord {
  digestOf(tag: string): string | undefined;
  claim(tags: readonly string[], options: Scope): Promise<void>;
  settle(
    result: {
      readonly copied: ReadonlyMap<string, string>;
      readonly unchanged: ReadonlyMap<string, string>;
      readonly selected: ReadonlySet<string>;
      readonly isComplete: boolean;
    },
    options: Scope & { readonly now: Date },
  ): Promise<readonly Leftover[]>;
}

/** What knows how to record and to remove. `R` is `Ownership`. */
export interface RecordKeeping<R extends OwnershipRecord = OwnershipRecord> {
  read(target: ContentTarget, owner: Owner, options: Scope): Promise<R>;
  remove(
    target: ContentTarget,
    approved: readonly { readonly tag: string; readonly digest: string }[],
    options: Scope & { readonly ownership: R; readonly selected: ReadonlySet<string> },
  ): Promise<{ readonly removed: readonly string[]; readonly isUnsupported: boolean }>;
}

export interface ShardRecordsOptions<R extends OwnershipRecord> {
  readonly keeping: RecordKeeping<R>;
  readonly target: ContentTarget;
  readonly owner: Owner;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/**
 * Keeps the record of what a run writes. Nothing of it is read or written before there is something to record.
 *
 * A registry that refuses records gets its copies none the less: what is not on record is never removed.
 */
export class ShardRecords<R extends OwnershipRecord> {
  readonly #options: ShardRecordsOptions<R>;
  #record: Promise<R> | undefined;
  #selected: readonly string[] = [];
  /** By tag, the write that records it. */
  readonly #claims = new Map<string, Promise<void>>();
  readonly #waiting = new Set<string>();
  #nextWrite: Promise<void> | undefined;
  #lastWrite: Promise<void> = Promise.resolve();
  #isRefused = false;
  #isComplete = true;

  constructor(options: ShardRecordsOptions<R>) {
    this.#options = options;
  }

  /** Whether nothing is left to be recorded that a later run could record. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Notes which tags and digests are going to be looked at. */
  select(references: readonly string[]): void {
    this.#selected = references;
  }

  /**
   * Records a tag before it is written, if it is new to the target, or on record: what is then written is
   * Coral's, also if nobody comes to settle it. Together with it go all others that are known to be new, or that
   * come while a write is under way.
   *
   * @throws if it may go better later; then the tag must not be written.
   */
  async claim(tag: string, { isThere, targetTags }: TagAtTarget): Promise<void> {
    if (digestPattern.test(tag) || this.#isRefused) return;
    const known = this.#claims.get(tag);
    if (known) return known;
    if (isThere && !(await this.#isOnRecord(tag))) return;
    const isNew = (other: string): boolean =>
      !digestPattern.test(other) && targetTags?.has(other) === false && !this.#claims.has(other);
    const added = new Set([tag, ...this.#selected.filter(isNew)]);
    for (const each of added) this.#waiting.add(each);
    const write = this.#nextWrite ?? this.#begin();
    for (const each of added) this.#claims.set(each, write);
    return write;
  }

  /**
   * Records what a run did, removes what is approved, and tells what is left over.
   *
   * @returns `undefined` if the record does not tell.
   */
  async settle(
    results: readonly TagResult[],
    options: {
      readonly spec: MirrorShardSpec;
      readonly status: MirrorShardStatus | undefined;
      readonly now: Date;
    },
  ): Promise<RemovalFacts | undefined> {
    if (this.#isRefused) return undefined;
    try {
      return await this.#settle(results, options);
    } catch (error) {
      const { signal, log } = this.#options;
      signal.throwIfAborted();
      this.#isComplete = !isRetryable(error);
      log.warn("what was copied is not on record, or not removed", { error });
      return undefined;
    }
  }

  async #settle(
    results: readonly TagResult[],
    { spec, status, now }: Parameters<ShardRecords<R>["settle"]>[1],
  ): Promise<RemovalFacts> {
    const { keeping, target, signal } = this.#options;
    const ownership = await this.#open();
    const selected = new Set(this.#selected.filter((name) => !digestPattern.test(name)));
    const { copied, unchanged } = digestsOf(results);
    const found = await ownership.settle(
      { copied, unchanged, selected, isComplete: true },
      { now, signal },
    );
    const approved = approvedOf(spec, status);
    const answer =
      approved.length > 0
        ? await keeping.remove(target, approved, {
            ownership,
            selected: new Set(this.#selected), // Digests too: they keep what they need.
            signal,
          })
        : undefined;
    const gone = new Set(answer?.removed);
    const left = found.filter(({ tag }) => !gone.has(tag));
    const graceMs = parseGoDuration(spec.gracePeriod) ?? 0;
    const removals = left.slice(0, maxRemovals).map(({ tag, digest, unselectedSince }) => ({
      tag,
      digest,
      dueTime: formatTime(new Date(unselectedSince.getTime() + graceMs)),
    }));
    const isUnsupported = answer?.isUnsupported;
    return { removable: left.length, removals, removed: gone.size, isUnsupported };
  }

  async #isOnRecord(tag: string): Promise<boolean> {
    try {
      return (await this.#open()).digestOf(tag) !== undefined;
    } catch (error) {
      this.#refuse(error);
      return false;
    }
  }

  #begin(): Promise<void> {
    const write = this.#lastWrite.then(() => this.#write());
    this.#nextWrite = write;
    this.#lastWrite = write.catch(() => {}); // Those who wait for it hear of it.
    return write;
  }

  async #write(): Promise<void> {
    const { signal } = this.#options;
    const tags = [...this.#waiting];
    this.#waiting.clear();
    this.#nextWrite = undefined; // Whoever comes from now on goes with the next one.
    try {
      const record = await this.#open();
      await record.claim(tags, { signal });
    } catch (error) {
      for (const tag of tags) this.#claims.delete(tag);
      this.#refuse(error);
    }
  }

  /** @throws the error, if it may go better later. */
  #refuse(error: unknown): void {
    const { signal, log } = this.#options;
    signal.throwIfAborted();
    if (isRetryable(error)) throw error;
    if (!this.#isRefused) {
      log.warn("the destination takes no record of copies: they will not be removed", { error });
    }
    this.#isRefused = true;
  }

  #open(): Promise<R> {
    const { keeping, target, owner, signal } = this.#options;
    const record = (this.#record ??= keeping.read(target, owner, { signal }));
    record.catch(() => {
      if (this.#record === record) this.#record = undefined; // The next one asks anew.
    });
    return record;
  }
}

/** Whether approved removals are still to be done: of those that this worker told of. */
export function approvedOf(
  { removals = [] }: MirrorShardSpec,
  status: MirrorShardStatus | undefined,
): readonly { readonly tag: string; readonly digest: string }[] {
  const told = new Map(status?.removals?.map(({ tag, digest }) => [tag, digest]));
  return removals.filter(({ tag, digest }) => told.get(tag) === digest);
}

function digestsOf(results: readonly TagResult[]): {
  copied: Map<string, string>;
  unchanged: Map<string, string>;
} {
  const found = { copied: new Map<string, string>(), unchanged: new Map<string, string>() };
  for (const result of results) {
    const { outcome, tag } = result;
    if (digestPattern.test(tag)) continue;
    if (outcome === "copied" || outcome === "unchanged") found[outcome].set(tag, result.digest);
  }
  return found;
}

function isRetryable(error: unknown): boolean {
  return error instanceof Error && "retryable" in error && error.retryable === true;
}
