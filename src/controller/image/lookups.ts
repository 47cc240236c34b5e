import type { Image } from "#api/v1/image.ts";
import { isListed, movingIn, type RepositorySpec } from "./listed-tags.ts";
import type { SizedImage } from "./registry-lookup.ts";

/** Digests that are remembered of a tag that moves, so that nodes which still have one cause no request. */
const maxSeen = 16;

/** What a registry did not tell. */
export interface LookupProblem {
  /** The reference or the repository that was asked for. */
  readonly name: string;
  /** `NotFound`, `Denied` and so on. */
  readonly reason: string;
  /** The registry's own words. */
  readonly message: string;
}

/** What one question to a registry has come to. */
export interface Lookup<T> {
  found?: T;
  problem?: LookupProblem;
  failures: number;
  /** How long the registry asks to be left alone. */
  retryAfterMs?: number;
}

/** What a reference names. */
export interface ImageLookup extends Lookup<SizedImage> {
  /** When each digest that a node had was last taken for a reason to look again. */
  readonly seenAtMs: Map<string, number>;
  checkedAtMs: number;
  /** Whether it is looked at again and again. */
  isFollowed: boolean;
}

/** Which tags a repository has. */
export interface ListLookup extends Lookup<readonly string[]> {
  /** By which the tags were chosen. */
  filter: RepositorySpec["filter"];
}

/** What registries have told of one Image, and what they are being asked. */
export class ImageLookups {
  readonly uid: string;
  /** Of the Image's pull secrets. */
  revision: string | undefined;
  #generation: number | undefined;
  #isMoving: (reference: string) => boolean = () => false;
  readonly images = new Map<string, ImageLookup>();
  readonly lists = new Map<string, ListLookup>();

  constructor({ metadata: { uid = "" } }: Image, revision: string | undefined) {
    this.uid = uid;
    this.revision = revision;
  }

  /** Goes by the spec of the Image as it is now. */
  follow(image: Image): void {
    const { generation } = image.metadata;
    if (this.#generation === generation) return;
    this.#generation = generation;
    this.#isMoving = movingIn(image);
  }

  /** Whether a reference may come to name something else, and the Image wants to follow it. */
  isMoving(reference: string): boolean {
    return this.#isMoving(reference);
  }

  /** Whether something, or one of the references, was neither found nor failed yet. */
  isOpen(reference?: string): boolean {
    if (reference !== undefined) return isOpen(this.images.get(reference));
    return this.images.values().some(isOpen) || this.lists.values().some(isOpen);
  }

  /** What registries did not tell. */
  problems(): { images: LookupProblem[]; lists: LookupProblem[] } {
    return { images: problemsIn(this.images.values()), lists: problemsIn(this.lists.values()) };
  }

  /** Forgets everything that the Image no longer asks for. */
  keepOnly({ spec }: Image, references: ReadonlySet<string>): void {
    const repositories = new Set(spec.repositories.filter(isListed).map(({ name }) => name));
    for (const reference of this.images.keys()) {
      if (!references.has(reference)) this.images.delete(reference);
    }
    for (const name of this.lists.keys()) {
      if (!repositories.has(name)) this.lists.delete(name);
    }
  }
}

/** Makes the lookup of a reference. @param found - what an earlier leader knew. */
export function newImageLookup(found?: SizedImage): ImageLookup {
  const common = { failures: 0, seenAtMs: new Map(), checkedAtMs: -Infinity, isFollowed: false };
  return found ? { ...common, found } : common;
}

/** Remembers a digest that is no reason to look again soon. */
export function rememberSeen({ seenAtMs }: ImageLookup, digest: string, nowMs: number): void {
  seenAtMs.delete(digest);
  seenAtMs.set(digest, nowMs);
  const [oldest] = seenAtMs.keys();
  if (seenAtMs.size > maxSeen && oldest !== undefined) seenAtMs.delete(oldest);
}

function isOpen(lookup: Lookup<unknown> | undefined): boolean {
  return !lookup?.found && !lookup?.problem;
}

function problemsIn(lookups: Iterable<Lookup<unknown>>): LookupProblem[] {
  return [...lookups].flatMap(({ problem }) => problem ?? []);
}
