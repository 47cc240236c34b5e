import type { RuntimeImage } from "#cri/runtime-client.ts";
import {
  formatReference,
  InvalidReferenceError,
  parseReference,
  type Reference,
} from "#oci/reference.ts";

/** An image that the runtime has under a name. */
export interface HeldImage {
  /**
   * What its repository may have called it, sorted. Of several, which stand for the same content,
   * nobody can tell which one a tag means; a runtime that was given the image as a file knows none.
   */
  readonly digests: readonly string[];
  readonly sizeBytes: number;
}

/**
 * Names the entry of the runtime's list that shows a reference to be there.
 *
 * A digest says all: a runtime that pulled `name:tag@digest` lists `name@digest` and no tag.
 */
export function nameInRuntime(reference: string): string {
  return nameOf(parseReference(reference));
}

function nameOf({ registry, path, tag, digest }: Reference): string {
  return formatReference(
    digest === undefined
      ? { registry, path, ...(tag !== undefined && { tag }) }
      : { registry, path, digest },
  );
}

/**
 * Remembers what the runtime has, by normalised name.
 *
 * A list is as old as the moment it was asked for, so that what a pull brought while one was on its
 * way outlasts it: `beginRead()` before the request, `endRead()` with its answer.
 */
export class Inventory {
  #held: ReadonlyMap<string, HeldImage> = new Map();
  #reads = 0;

  /** Names learned of one by one, with the number of reads that had begun by then. */
  readonly #learned = new Map<string, number>();

  /** Whether the runtime has an image that `reference` names. */
  find(reference: string): HeldImage | undefined {
    return this.#held.get(nameInRuntime(reference));
  }

  beginRead(): number {
    return ++this.#reads;
  }

  /** Replaces everything but what was learned since the read began. */
  endRead(read: number, images: readonly RuntimeImage[]): void {
    const held = heldImages(images);
    for (const [name, reads] of this.#learned) {
      const image = this.#held.get(name);
      if (reads < read) this.#learned.delete(name);
      else if (image) held.set(name, image);
    }
    this.#held = held;
  }

  /** Adds what the runtime told of one image. */
  learn(image: RuntimeImage): void {
    const names = heldImages([image]);
    for (const name of names.keys()) this.#learned.set(name, this.#reads);
    this.#held = new Map([...this.#held, ...names]);
  }
}

function heldImages(images: readonly RuntimeImage[]): Map<string, HeldImage> {
  const held = new Map<string, HeldImage>();
  for (const { tags, digests, sizeBytes } of images) {
    const byDigest = digests.flatMap(parsed);
    for (const reference of [...tags.flatMap(parsed), ...byDigest]) {
      held.set(nameOf(reference), { sizeBytes, digests: digestsOf(reference, byDigest) });
    }
  }
  return held;
}

function digestsOf(
  { registry, path, digest }: Reference,
  byDigest: readonly Reference[],
): readonly string[] {
  if (digest !== undefined) return [digest];
  const ofRepository = byDigest.flatMap((other) =>
    other.registry === registry && other.path === path ? (other.digest ?? []) : [],
  );
  return [...new Set(ofRepository)].sort();
}

/** Runtimes list names that are none, such as `<none>:<none>` of CRI-O. */
function parsed(text: string): Reference[] {
  try {
    return [parseReference(text)];
  } catch (error) {
    if (error instanceof InvalidReferenceError) return [];
    throw error;
  }
}
