import { addAbortListener } from "node:events";

import { Semaphore } from "#async/semaphore.ts";
import {
  WrongContentError,
  type ContentSource,
  type ContentTarget,
  type Descriptor,
} from "#oci/content.ts";
import type { BlobOutcome } from "./copy-result.ts";
import type { FairSlots, Parties } from "./fair-slots.ts";
import { SharedWork } from "./shared-work.ts";

/** How many blobs a registry is asked for at the same time whether it has them. */
const maxLookups = 16;

/** A blob that is hardly there is sent rather than asked for, if it is no larger. */
const maxUnaskedBytes = 256 * 1_024;

/** A repository, and how its registry names it: `org/app`. */
export interface TargetRepository {
  readonly repository: ContentTarget;
  readonly path: string;
}

export interface BlobRequest {
  readonly source: ContentSource;
  readonly target: TargetRepository;
  readonly descriptor: Descriptor;
  /** Caps the blobs in flight; of whoever shares it. */
  readonly slots: FairSlots;
  /** On whose behalf the blob is wanted. */
  readonly parties: Parties;
  /** Whether nothing is likely to be at the target. */
  readonly isNew?: boolean;
  /** Ends the waiting. A transfer that has begun goes on: another tag may want the same blob. */
  readonly signal: AbortSignal;
  readonly onProgress: (sentBytes: number) => void;
}

/**
 * Brings blobs into the repositories of one target registry, each once however many tags and repositories
 * want it. It remembers, for a run, what is where, and what was refused.
 */
export class BlobPool {
  readonly #signal: AbortSignal;
  readonly #lookups: Semaphore;
  readonly #requests = new SharedWork();
  /** Repositories that have a blob, by digest. */
  readonly #homes: Map<string, Set<string>>;
  /** Content that is wrong stays wrong: nobody downloads it again in this run. */
  readonly #refused = new Map<string, WrongContentError>();
  /** Blobs on their way, by digest, from those who share slots: those of one host. */
  readonly #busy: WeakMap<FairSlots, Map<string, Promise<void>>>;

  /**
   * @param options.signal - the run's: it ends transfers, too.
   * @param options.beside - of another run to the same registry, by the same login. What either of them
   *   brought is known to both; neither ends with the other.
   */
  constructor({ signal, beside }: { signal: AbortSignal; beside?: BlobPool | undefined }) {
    this.#signal = signal;
    this.#lookups = beside ? beside.#lookups : new Semaphore(maxLookups);
    this.#homes = beside ? beside.#homes : new Map<string, Set<string>>();
    this.#busy = beside ? beside.#busy : new WeakMap<FairSlots, Map<string, Promise<void>>>();
  }

  /**
   * Sees to it that the target has a blob.
   *
   * @throws {WrongContentError} if the source's bytes are not those of the descriptor; and what source and
   *   target throw.
   */
  async provide(request: BlobRequest): Promise<BlobOutcome> {
    const { target, signal } = request;
    const { digest, sizeBytes } = request.descriptor;
    const refused = this.#refused.get(contentKey(request));
    if (refused) throw refused;
    if (this.#isAt(digest, target.path)) return "skipped";
    let outcome: BlobOutcome = "skipped";
    await this.#requests.do(`${target.path} ${digest} ${sizeBytes}`, signal, async () => {
      outcome = await this.#one(request, async () => {
        const how = await this.#bring(request);
        this.#remember(digest, target.path); // Before the next one looks.
        return how;
      });
    });
    return outcome;
  }

  /** Forgets what a repository has, since somebody may take it away when its run is over. */
  forget(path: string): void {
    for (const [digest, homes] of this.#homes) {
      if (homes.delete(path) && homes.size === 0) this.#homes.delete(digest);
    }
  }

  #isAt(digest: string, path: string): boolean {
    return this.#homes.get(digest)?.has(path) === true;
  }

  #remember(digest: string, path: string): void {
    const homes = this.#homes.get(digest) ?? new Set();
    this.#homes.set(digest, homes.add(path));
  }

  /**
   * One repository after the other: the second can take over what the first got. A host that is slow has
   * only its own wait.
   */
  async #one<T>(
    { slots, descriptor: { digest }, signal }: BlobRequest,
    act: () => Promise<T>,
  ): Promise<T> {
    const busy = this.#busy.get(slots) ?? new Map<string, Promise<void>>();
    this.#busy.set(slots, busy);
    while (busy.has(digest)) await waitFor(busy.get(digest), signal);
    const { promise, resolve } = Promise.withResolvers<void>();
    busy.set(digest, promise);
    try {
      return await act();
    } finally {
      busy.delete(digest);
      resolve();
    }
  }

  async #bring(request: BlobRequest): Promise<BlobOutcome> {
    const found = await this.#lookUp(request);
    if (found) return found;
    using _slot = await request.slots.acquire(request);
    await this.#write(request);
    return "copied";
  }

  async #lookUp(request: BlobRequest): Promise<BlobOutcome | undefined> {
    const { target, descriptor, isNew = false, signal } = request;
    const { digest, sizeBytes } = descriptor;
    using _lookup = await this.#lookups.acquire({ signal });
    for (const home of this.#homes.get(digest) ?? []) {
      if (await target.repository.mountBlob(digest, home, { signal })) return "mounted";
      break; // A registry that does not mount from one does not mount from another.
    }
    if (isNew && sizeBytes <= maxUnaskedBytes) return undefined;
    return (await target.repository.hasBlob(digest, { signal })) ? "skipped" : undefined;
  }

  async #write(request: BlobRequest): Promise<void> {
    const { source, target, descriptor, onProgress } = request;
    const signal = this.#signal;
    try {
      await target.repository.writeBlob(
        descriptor,
        (fromByte) => source.blob(descriptor, { signal, fromByte }),
        { signal, onProgress },
      );
    } catch (error) {
      if (error instanceof WrongContentError) this.#refused.set(contentKey(request), error);
      throw error;
    }
  }
}

/** Waits for what does not end with this tag, or with this run. */
async function waitFor(other: Promise<void> | undefined, signal: AbortSignal): Promise<void> {
  const { promise, reject } = Promise.withResolvers<void>();
  using _ = addAbortListener(signal, () => reject(signal.reason));
  await Promise.race([other, promise]);
}

/** What one manifest says of a blob, and may have wrong, another one may have right. */
function contentKey({ source, descriptor: { digest, sizeBytes } }: BlobRequest): string {
  return `${source.name} ${digest} ${sizeBytes}`;
}
