import { hash } from "node:crypto";

import type { MirrorShard } from "#api/v1/mirror-shard.ts";
import { isAbort } from "#async/abort.ts";
import type { Clock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import {
  outcomeOf,
  type CopyEvent,
  type CopyFailure,
  type TagResult,
} from "#mirror/copy-result.ts";
import type { HostSlots } from "#mirror/host-slots.ts";
import { runMirror } from "#mirror/run.ts";
import { ConflictError } from "#kube/errors.ts";
import type { Log } from "#telemetry/log.ts";
import type { OpenedShard, Repositories } from "./repositories.ts";
import { RunTally } from "./run-tally.ts";
import {
  approvedOf,
  ShardRecords,
  type OwnershipRecord,
  type RecordKeeping,
} from "./shard-records.ts";
import { referrersDue, statusAfter, statusDuring, type RemovalFacts } from "./shard-status.ts";
import { ShardWriter, type ShardWriterOptions } from "./shard-writer.ts";
import { SharedPools } from "./shared-pools.ts";

type Scope = { signal: AbortSignal };

/** How often it is told how far a run is. */
const progressMs = 5_000;

export interface ShardRunnerOptions<R extends OwnershipRecord> extends ShardWriterOptions {
  readonly repositories: Pick<Repositories, "open" | "problemsOf">;
  readonly keeping: RecordKeeping<R>;
  /** When a shard is looked at again if all is well. */
  readonly nextSyncTime: (
    spec: MirrorShard["spec"],
    options: { now: Date; random: () => number },
  ) => Date;
  /** Shared by all that the process copies. */
  readonly slots: HostSlots;
  /** Hears of all that happens in runs. Must not throw. */
  readonly onEvent?: (event: CopyEvent) => void;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
}

/** What a run found. */
interface Pass {
  readonly results: readonly TagResult[];
  readonly failure: CopyFailure | undefined;
  readonly selection: string | undefined;
  readonly removal: RemovalFacts | undefined;
}

/** One run, as its parts need to know it. */
interface Run {
  readonly shard: MirrorShard;
  readonly tally: RunTally;
  readonly writer: ShardWriter;
  readonly log: Log;
  readonly areReferrersDue: ReturnType<typeof referrersDue>;
  /** What the bounds count its source by, as soon as it is known. */
  source?: string;
}

/**
 * Makes passes over the repositories of shards, one at a time for each shard, and writes their statuses.
 *
 * A pass that finds nothing new reads no manifest, and writes one status. Before one copies something it
 * says so in the shard, and has new tags recorded at the destination as Coral's.
 */
export class ShardRunner<R extends OwnershipRecord> {
  readonly #options: ShardRunnerOptions<R>;
  readonly #pools = new SharedPools();

  constructor(options: ShardRunnerOptions<R>) {
    this.#options = options;
  }

  /**
   * Makes one pass. What fails of it is told in the status.
   *
   * @throws the signal's reason, if aborted: the status then tells how far it came.
   * @throws {ConflictError} if the shard is somebody else's, or has changed: look again.
   * @throws {ApiError | ApiUnreachableError} if a status cannot be written.
   */
  async run(shard: MirrorShard, { signal }: Scope): Promise<void> {
    const { clock, log } = this.#options;
    const { namespace, name } = shard.metadata;
    const run: Run = {
      shard,
      tally: new RunTally(),
      writer: new ShardWriter(shard, this.#options),
      log: log.child({ kind: "MirrorShard", namespace, name }),
      areReferrersDue: referrersDue(shard, clock.now()),
    };
    try {
      const pass = await this.#passWhileTelling(run, { signal });
      await run.writer.finish(this.#statusAfter(run, pass), { signal });
    } catch (error) {
      await this.#letGo(run);
      signal.throwIfAborted();
      throw error;
    }
  }

  async #passWhileTelling(run: Run, { signal }: Scope): Promise<Pass> {
    await using group = new TaskGroup(signal);
    group.run((scope) => this.#tell(run, { signal: scope })).catch(() => {}); // The pass rejects with it.
    return await group.run(() => this.#pass(run, group));
  }

  /** Selects, copies, records and removes. */
  async #pass(run: Run, group: TaskGroup): Promise<Pass> {
    const { signal } = group;
    const { shard, tally } = run;
    let opened: OpenedShard;
    try {
      opened = await this.#options.repositories.open(shard, {
        onThrottled: (untilMs) => tally.hold(untilMs),
        signal,
      });
    } catch (error) {
      signal.throwIfAborted();
      return { results: [], failure: outcomeOf(error), selection: undefined, removal: undefined };
    }
    using _opened = opened;
    const { spec, status, metadata } = shard;
    const { cluster, mirror } = spec;
    const { namespace = "" } = metadata;
    const records = new ShardRecords({
      keeping: this.#options.keeping,
      target: opened.target,
      owner: { cluster, namespace, mirror },
      log: run.log,
      signal,
    });
    const { results, failure, selected } = await this.#copy(run, { opened, records, group });
    const selection = selected && selectionHash(spec.target, selected);
    if (failure || selection === undefined) {
      return { results, failure, selection: status?.selection, removal: undefined };
    }
    const isDue =
      run.writer.isClaimed ||
      selection !== status?.selection ||
      (status.removable ?? 0) > 0 ||
      approvedOf(spec, status).length > 0;
    const { clock } = this.#options;
    const removal = isDue
      ? await records.settle(results, { spec, status, now: clock.now() })
      : undefined;
    return { results, failure, selection: records.isComplete ? selection : undefined, removal };
  }

  async #copy(
    run: Run,
    { opened, records, group }: { opened: OpenedShard; records: ShardRecords<R>; group: TaskGroup },
  ): Promise<Pick<Pass, "results" | "failure"> & { selected: readonly string[] | undefined }> {
    const { slots, clock } = this.#options;
    const { shard, tally, areReferrersDue } = run;
    const { metadata, spec } = shard;
    const { source, target, path, hosts } = opened;
    run.source = hosts.source;
    if (shard.spec.retired) {
      records.select([]);
      return { results: [], failure: undefined, selected: [] };
    }
    const { platforms = [], referrers } = spec;
    const { signal } = group;
    const mirror = JSON.stringify([metadata.namespace, spec.mirror, hosts.target]);
    using pool = this.#pools.join(mirror, path, { signal });
    let selected: readonly string[] | undefined;
    const { repositories } = await runMirror({
      tasks: [
        {
          source,
          target: { repository: target, path },
          hosts,
          selection: spec,
          referrersDue: areReferrersDue,
        },
      ],
      slots,
      blobs: pool.blobs,
      platforms,
      referrers,
      onSelected(references) {
        selected = references;
        tally.select(references);
        records.select(references);
      },
      beforeCopy: async (tag, at) => {
        await group.run((scope) => this.#claim(run, { signal: scope }));
        await records.claim(tag, at);
      },
      onEvent: (event) => {
        tally.note(event, clock.now().getTime());
        this.#options.onEvent?.(event);
      },
      signal,
    });
    const [result] = repositories;
    return { results: result?.tags ?? [], failure: result?.failure, selected };
  }

  async #claim(run: Run, { signal }: Scope): Promise<void> {
    await run.writer.claim(() => this.#statusDuring(run), { signal });
  }

  /** Tells how far a run is while it copies something, or waits for a registry. */
  async #tell(run: Run, { signal }: Scope): Promise<void> {
    const { clock, slots } = this.#options;
    const { tally, writer, log } = run;
    let told = tally.counts;
    let wasHeld = false;
    using hold = new SourceHold(slots);
    for (;;) {
      await clock.sleep(progressMs, { signal });
      const { counts } = tally;
      const isHeld = (counts.throttledUntilMs ?? 0) > clock.now().getTime();
      hold.update(isHeld ? run.source : undefined);
      try {
        if (isHeld && !writer.isClaimed) await this.#claim(run, { signal });
        else if (writer.isClaimed && (counts !== told || isHeld !== wasHeld)) {
          await writer.update(this.#statusDuring(run), { signal });
        }
        told = counts;
        wasHeld = isHeld;
      } catch (error) {
        if (isAbort(error, signal) || error instanceof ConflictError) throw error;
        log.debug("progress is not told", { error });
      }
    }
  }

  /** What was uploaded stays: whoever comes next finds it. */
  async #letGo(run: Run): Promise<void> {
    const { writer, log } = run;
    if (!writer.isClaimed) return;
    try {
      await writer.release(this.#statusDuring(run, { isOver: true }));
    } catch (error) {
      log.warn("a shard is not let go of", { error });
    }
  }

  #statusDuring(run: Run, { isOver = false } = {}): ReturnType<typeof statusDuring> {
    const { repositories, clock, identity } = this.#options;
    return statusDuring(run.shard, {
      counts: run.tally.counts,
      secretProblems: repositories.problemsOf(run.shard),
      now: clock.now(),
      worker: isOver ? undefined : identity,
    });
  }

  #statusAfter({ shard, tally, areReferrersDue }: Run, pass: Pass): ReturnType<typeof statusAfter> {
    const { repositories, clock, random, nextSyncTime } = this.#options;
    const now = clock.now();
    const { failure, selection, removal } = pass;
    return statusAfter(shard, {
      counts: tally.counts,
      failure,
      selection,
      removal,
      wereReferrersDue: areReferrersDue === true,
      secretProblems: repositories.problemsOf(shard),
      regularTime: nextSyncTime(shard.spec, { now, random }),
      random,
      now,
    });
  }
}

/** Leaves the room of a source's host to others while it wants to be left alone. */
class SourceHold implements Disposable {
  readonly #slots: HostSlots;
  #hold: Disposable | undefined;

  constructor(slots: HostSlots) {
    this.#slots = slots;
  }

  /** @param source - `undefined` if it may be asked. */
  update(source: string | undefined): void {
    if (source === undefined) this[Symbol.dispose]();
    else this.#hold ??= this.#slots.hold(source);
  }

  [Symbol.dispose](): void {
    this.#hold?.[Symbol.dispose]();
    this.#hold = undefined;
  }
}

/** Tells whether what is selected is what it was. */
function selectionHash(target: string, selected: readonly string[]): string {
  return hash("sha256", JSON.stringify([target, ...[...selected].sort()]));
}
