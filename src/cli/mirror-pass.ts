import { isAbort } from "#async/abort.ts";
import { Semaphore } from "#async/semaphore.ts";
import type { CopyEvent, TagResult } from "#mirror/copy-result.ts";
import { HostSlots } from "#mirror/host-slots.ts";
import { runMirror, summarize, type MirrorSummary, type RepositoryResult } from "#mirror/run.ts";
import type { FileMirror } from "./mirror-file.ts";
import type { PlannedMirror } from "./mirror-plan.ts";
import { plannedSizes, totalOf } from "./planned-size.ts";

/** How many sizes are asked for at the same time, for a dry run. */
const maxSizes = 8;

export interface PassOptions {
  readonly planned: readonly PlannedMirror[];
  readonly dryRun: boolean;
  /** How many blobs come from one registry at the same time. */
  readonly parallel: number;
  readonly onEvent: (event: CopyEvent) => void;
  readonly signal: AbortSignal;
}

/** How a tag went; of a dry run with the size of what would be copied, where the source tells it. */
export type SizedTag = TagResult & { readonly sizeBytes?: number };

export interface SizedRepository extends RepositoryResult {
  readonly tags: readonly SizedTag[];
  /** Of a dry run: of all tags that would be copied, what they share counted once. */
  readonly sizeBytes?: number;
}

/** How a Mirror went. */
export interface MirrorOutcome {
  readonly mirror: FileMirror;
  readonly repositories: readonly SizedRepository[];
}

export interface PassResult {
  readonly mirrors: readonly MirrorOutcome[];
  readonly totals: MirrorSummary;
  /** Of a dry run: the most that would be sent, as far as the sources tell. */
  readonly plannedBytes: number;
  /** Whether it was ended before its end: then what was not begun is not in it. */
  readonly isInterrupted: boolean;
}

/** Makes one pass over Mirrors, all at the same time. Being aborted ends it, and it says what was done. */
export async function runPass(options: PassOptions): Promise<PassResult> {
  const { planned, parallel, signal } = options;
  const slots = new HostSlots({
    blobsPerSource: parallel,
    perSource: 2 * parallel,
    perTarget: 4 * parallel,
    total: 8 * parallel,
  });
  const sizes = new Map<string, number>();
  const mirrors = await Promise.all(planned.map((each) => runOne(each, { slots, sizes }, options)));
  const totals = summarize(mirrors.flatMap(({ repositories }) => repositories));
  return { mirrors, totals, plannedBytes: totalOf(sizes), isInterrupted: signal.aborted };
}

async function runOne(
  { mirror, tasks, unopened }: PlannedMirror,
  { slots, sizes }: { slots: HostSlots; sizes: Map<string, number> },
  { dryRun, onEvent, signal }: PassOptions,
): Promise<MirrorOutcome> {
  const { platforms = [], referrers } = mirror.spec;
  const done = new DoneTags();
  try {
    const { repositories } = await runMirror({
      tasks,
      slots,
      platforms,
      referrers,
      dryRun,
      signal,
      onEvent(event) {
        done.note(event);
        onEvent(event);
      },
    });
    const all = [...unopened, ...repositories];
    return { mirror, repositories: dryRun ? await withSizes(all) : all };
  } catch (error) {
    if (!isAbort(error, signal)) throw error;
    return { mirror, repositories: [...unopened, ...done.repositories] };
  }

  async function withSizes(repositories: readonly RepositoryResult[]): Promise<SizedRepository[]> {
    const atOnce = new Semaphore(maxSizes);
    return Promise.all(
      repositories.map(async (result) => {
        const source = tasks.find((task) => task.source.name === result.source)?.source;
        if (!source) return result;
        const together = new Map<string, number>();
        const tags = result.tags.map(async (tag): Promise<SizedTag> => {
          if (tag.outcome !== "planned") return tag;
          using _slot = await atOnce.acquire({ signal });
          const found = await plannedSizes(source, tag.tag, { platforms, signal });
          if (!found) return tag;
          for (const [digest, sizeBytes] of found) {
            together.set(digest, sizeBytes);
            sizes.set(digest, sizeBytes);
          }
          return { ...tag, sizeBytes: totalOf(found) };
        });
        return { ...result, tags: await Promise.all(tags), sizeBytes: totalOf(together) };
      }),
    );
  }
}

/** What a pass that is ended has done so far. */
class DoneTags {
  readonly #repositories = new Map<string, { source: string; target: string; tags: TagResult[] }>();

  note(event: CopyEvent): void {
    if (event.kind !== "tagDone") return;
    const { source, target, result } = event;
    const key = `${source} ${target}`;
    const repository = this.#repositories.get(key) ?? { source, target, tags: [] };
    repository.tags.push(result);
    this.#repositories.set(key, repository);
  }

  get repositories(): RepositoryResult[] {
    return [...this.#repositories.values()];
  }
}
