import type { ContentSource } from "#oci/content.ts";
import { BlobPool, type TargetRepository } from "./blob-pool.ts";
import {
  outcomeOf,
  type BeforeCopy,
  type CopyEvent,
  type CopyFailure,
  type TagResult,
} from "./copy-result.ts";
import { RepositoryCopy } from "./copy.ts";
import { HostSlots, type Hosts } from "./host-slots.ts";
import { selectReferences, type TagSelection } from "./selection.ts";

/** How many tags of one repository stand in line for slots, so that others get theirs in between. */
const tagsInLine = 16;

/** A repository to copy. */
export interface MirrorTask {
  readonly source: ContentSource;
  readonly target: TargetRepository;
  /** What the bounds count by. Targets of one host take blobs over from one another. */
  readonly hosts: Hosts;
  readonly selection: TagSelection;
  /** Whether it is time to look for new referrers of tags that are unchanged; or of which of them. */
  readonly referrersDue?: boolean | ReadonlySet<string>;
}

export interface MirrorRunOptions {
  readonly tasks: readonly MirrorTask[];
  /** Share one between runs of a process, to bound them together. */
  readonly slots?: HostSlots;
  /** Knows the blobs of the targets' registry, if all are of one: one is made for each if not given. */
  readonly blobs?: BlobPool;
  /** Which platforms of an index to take. Empty or not given: all, as they are. */
  readonly platforms?: readonly string[];
  /** Whether to copy what refers to images. */
  readonly referrers?: boolean;
  /** Whether only to say what would be copied. */
  readonly dryRun?: boolean;
  /** Told which tags and digests of a task's repository are going to be looked at. */
  readonly onSelected?: (references: readonly string[], task: MirrorTask) => void;
  readonly beforeCopy?: BeforeCopy;
  readonly onEvent?: (event: CopyEvent) => void;
  readonly signal: AbortSignal;
}

/** How a repository went. */
export interface RepositoryResult {
  /** The repositories, by their names for people. */
  readonly source: string;
  readonly target: string;
  readonly tags: readonly TagResult[];
  /** Why it is not known which tags there are; then there are none in `tags`. */
  readonly failure?: CopyFailure;
}

export interface MirrorSummary {
  readonly copied: number;
  readonly unchanged: number;
  readonly planned: number;
  /** Tags, and repositories whose tags are not known. */
  readonly failed: number;
  readonly throttled: number;
  readonly bytesCopied: number;
}

export interface MirrorRunResult extends MirrorSummary {
  /** In the order of the tasks. */
  readonly repositories: readonly RepositoryResult[];
}

/**
 * Makes one pass over repositories, and copies what is new of each. Failures are results, and stop nothing
 * else.
 *
 * @throws only the signal's reason, if aborted. What was copied by then stays, and is not copied again.
 */
export async function runMirror(options: MirrorRunOptions): Promise<MirrorRunResult> {
  const { tasks, slots = new HostSlots(), signal } = options;
  signal.throwIfAborted();
  const pools = new Map<string, BlobPool>();
  const poolOf = (host: string): BlobPool => {
    const pool = options.blobs ?? pools.get(host) ?? new BlobPool({ signal });
    pools.set(host, pool);
    return pool;
  };
  const settled = await Promise.allSettled(
    tasks.map((task) => copyRepository(task, { ...options, slots }, poolOf(task.hosts.target))),
  );
  const repositories = settled.map((each) => {
    if (each.status === "rejected") throw each.reason;
    return each.value;
  });
  return { repositories, ...summarize(repositories) };
}

async function copyRepository(
  task: MirrorTask,
  options: MirrorRunOptions & { slots: HostSlots },
  blobs: BlobPool,
): Promise<RepositoryResult> {
  const { source, target, hosts, selection, referrersDue = false } = task;
  const { slots, signal } = options;
  const names = { source: source.name, target: target.repository.name };
  let references: readonly string[];
  try {
    using _slot = await slots.acquire(hosts, { signal });
    references = await selectReferences(selection, () => source.tags({ signal }), {
      signal,
      find: (tag, find) => source.find(tag, find),
    });
  } catch (error) {
    signal.throwIfAborted();
    return { ...names, tags: [], failure: outcomeOf(error) };
  }
  options.onSelected?.(references, task);
  const copy = new RepositoryCopy({
    ...options,
    source,
    target,
    blobs,
    slots: slots.blobSlots(hosts.source),
    parties: hosts.parties,
    referrersDue,
  });
  const tags: TagResult[] = [];
  const waiting = references.entries();
  const lines = Array.from({ length: tagsInLine }, async () => {
    for (const [place, reference] of waiting) {
      using _slot = await slots.acquire(hosts, { signal });
      tags[place] = await copy.copyTag(reference);
    }
  });
  // All of them, so that nothing goes on when this returns.
  for (const line of await Promise.allSettled(lines)) {
    if (line.status === "rejected") throw line.reason;
  }
  return { ...names, tags };
}

/** Counts what became of repositories. */
export function summarize(repositories: readonly RepositoryResult[]): MirrorSummary {
  const counts = { copied: 0, unchanged: 0, planned: 0, failed: 0, throttled: 0, bytesCopied: 0 };
  for (const { tags, failure } of repositories) {
    if (failure) counts[failure.outcome]++;
    for (const { outcome, bytesCopied } of tags) {
      counts[outcome]++;
      counts.bytesCopied += bytesCopied;
    }
  }
  return counts;
}
