import { isDeepStrictEqual } from "node:util";

import type { Image, ImageSpec } from "#api/v1/image.ts";
import type { ImagePlanSpec } from "#api/v1/image-plan.ts";
import { fullJitter } from "#async/backoff.ts";
import { filterTags, FilterTooSlowError } from "#api/v1/tag-filter.ts";
import type { Clock } from "#async/clock.ts";

import { Deadline } from "#async/deadline.ts";
import type { Lister } from "#kube/lister.ts";
import { settled, type Result } from "#kube/reconcile.ts";
import { WorkQueue } from "#kube/work-queue.ts";
import {
  InvalidReferenceError,
  parseReference,
  parseRepository,
  type Repository,
} from "#oci/reference.ts";
import type { Login } from "#remote/keyring.ts";
import { RegistryError } from "#remote/registry-error.ts";
import type { Log } from "#telemetry/log.ts";
import type { Counter, Registry } from "#telemetry/metrics.ts";
import { LookupTurns } from "./lookup-turns.ts";
import type { FoundImage, PlatformSize } from "./plan.ts";

type RepositorySpec = ImageSpec["repositories"][number];
type Scope = { signal: AbortSignal };

/** Requests to registries at the same time, of all Images together. They only wait. */
const workers = 64;

/** Longest that one question may take, with all the pages and manifests that it leads to. */
const lookMs = 60_000;

/** The most time of the processor that a filter may take for the tags of one repository. */
const filterMs = 1_000;

/** After a failure. Registries are others' machines: they are not pressed. */
const backoff = { minMs: 5_000, maxMs: 10 * 60_000 };

/** How soon a tag that nodes found moved is looked at again. */
const recheckMs = 10_000;

/** How long what is found waits for the rest, so that a plan is not written for each image of many. */
const gatherMs = 5_000;

/** Most tags of a repository that are looked through. */
const maxTags = 10_000;

/** Digests that are remembered of a tag that moves, so that nodes which still have one cause no request. */
const maxSeen = 16;

/** What a registry is asked. Implemented by `RegistryClient`. */
export interface RegistryLookup {
  resolve(
    reference: string,
    options: { logins: readonly Login[]; signal: AbortSignal },
  ): Promise<{ digest: string }>;
  sizes(
    reference: string,
    digest: string,
    options: {
      logins: readonly Login[];
      signal: AbortSignal;
      isWanted: (platform: string) => boolean;
    },
  ): Promise<readonly PlatformSize[]>;
  tags(
    repository: string,
    options: { logins: readonly Login[]; maxTags: number; signal: AbortSignal },
  ): Promise<readonly string[]>;
}

/** What a registry did not tell. */
export interface LookupProblem {
  /** The reference or the repository that was asked for. */
  readonly name: string;
  /** `NotFound`, `Denied` and so on. */
  readonly reason: string;
  /** The registry's own words. */
  readonly message: string;
}

export interface ResolverOptions {
  registry: RegistryLookup;
  images: Lister<Image>;
  /** The logins that an Image may use for a repository, the most fitting first. */
  loginsFor: (image: Image, repository: Repository) => readonly Login[];
  /** The platforms of the cluster's nodes, like `linux/arm64`. */
  platforms: () => ReadonlySet<string>;
  /** Hears of an Image of which more is known, in so many milliseconds. */
  onFound: (imageKey: string, afterMs: number) => void;
  /** How often tags that may move, and lists of tags, are looked at again. */
  intervalMs: number;
  clock: Clock;
  random: () => number;
  log: Log;
  metrics: Registry;
  lookups: Counter<{ result: readonly ["ok", "error"] }>;
}

interface Lookup<T> {
  found?: T;
  problem?: LookupProblem;
  failures: number;
  /** How long the registry asks to be left alone. */
  retryAfterMs?: number;
}

interface ImageLookup extends Lookup<FoundImage> {
  /** When each digest that a node had was last taken for a reason to look again. */
  readonly seenAtMs: Map<string, number>;
  checkedAtMs: number;
  /** Whether it is looked at again and again. */
  isFollowed: boolean;
}

interface ListLookup extends Lookup<readonly string[]> {
  /** By which the tags were chosen. */
  filter: RepositorySpec["filter"];
}

interface ImageState {
  readonly uid: string;
  generation: number | undefined;
  revision: string | undefined;
  /** Whether a reference may come to name something else, and the Image wants to follow it. */
  isMoving: (reference: string) => boolean;
  readonly images: Map<string, ImageLookup>;
  readonly lists: Map<string, ListLookup>;
}

/**
 * Asks registries what references name, and which tags repositories have.
 *
 * Each Image asks for itself, with its own logins: what one namespace may see is nothing to another.
 * Answers are kept until the Image goes, the plan holds them for the next leader, and only what may
 * change is asked again. Nothing here delays a pull: what is not known is left out of the plan.
 */
export class Resolver {
  readonly #options: ResolverOptions;
  readonly #queue: WorkQueue;
  readonly #states = new Map<string, ImageState>();
  readonly #turns = new LookupTurns((work) => this.#queue.add(work));

  constructor(options: ResolverOptions) {
    const { clock, random, metrics } = options;
    this.#options = options;
    this.#queue = new WorkQueue({ name: "registry", clock, random, backoff, metrics });
  }

  /** Asks registries until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const { log } = this.#options;
    await this.#queue.run((work, { signal: scope }) => this.#look(work, { signal: scope }), {
      workers,
      log,
      signal,
    });
  }

  /**
   * Tells what is known of an Image, after it has seen to it that the rest is asked for.
   *
   * @param plan - what an earlier leader knew.
   * @param revision - of the Image's pull secrets; with another one, what failed is asked again.
   */
  begin(image: Image, plan: ImagePlanSpec | undefined, revision: string | undefined): void {
    const key = keyOf(image);
    const { uid = "" } = image.metadata;
    const known = this.#states.get(key);
    const state = known?.uid === uid ? known : newState(image, revision);
    this.#states.set(key, state);
    if (state.generation !== image.metadata.generation) {
      state.generation = image.metadata.generation;
      state.isMoving = movingIn(image);
    }
    for (const { reference, digest, sizes = [] } of state === known ? [] : (plan?.images ?? [])) {
      if (digest !== undefined) state.images.set(reference, newImageLookup({ digest, sizes }));
    }
    if (state.revision === revision) return;
    state.revision = revision;
    for (const [kind, lookups] of [
      ["image", state.images],
      ["tags", state.lists],
    ] as const) {
      for (const [name, lookup] of lookups) {
        if (!lookup.problem) continue;
        lookup.failures = 0;
        this.#queue.add(`${key} ${kind} ${name}`);
      }
    }
  }

  /**
   * The tags of a repository that an Image wants all of, as they were last listed.
   *
   * @param plan - what an earlier leader listed, until this one has.
   */
  listed(
    image: Image,
    repository: RepositorySpec,
    plan: ImagePlanSpec | undefined,
  ): readonly string[] | undefined {
    const key = keyOf(image);
    const lists = this.#states.get(key)?.lists;
    const { name, filter } = repository;
    let lookup = lists?.get(name);
    if (!lookup || !isDeepStrictEqual(lookup.filter, filter)) {
      lookup = { filter, failures: 0 };
      lists?.set(name, lookup);
      this.#queue.add(`${key} tags ${name}`);
    }
    return lookup.found ?? tagsInPlan(plan, repository);
  }

  /** What a reference of an Image names; `undefined` while that is not known. */
  found(image: Image, reference: string): FoundImage | undefined {
    const key = keyOf(image);
    const state = this.#states.get(key);
    const work = `${key} image ${reference}`;
    const lookup = state?.images.get(reference);
    if (!lookup) {
      state?.images.set(reference, newImageLookup());
      this.#queue.add(work);
      return undefined;
    }
    if (lookup.found && !lookup.isFollowed && state?.isMoving(reference)) {
      lookup.isFollowed = true;
      this.#queue.addAfter(work, this.#options.random() * this.#options.intervalMs);
    }
    return lookup.found;
  }

  /** Whether something of an Image, or one of its references, was neither found nor failed yet. */
  isOpen(imageKey: string, reference?: string): boolean {
    const { images, lists } = this.#states.get(imageKey) ?? {};
    if (reference !== undefined) return isOpen(images?.get(reference));
    return (images?.values().some(isOpen) ?? false) || (lists?.values().some(isOpen) ?? false);
  }

  /** Forgets everything of an Image that it no longer asks for. */
  keepOnly(image: Image, references: ReadonlySet<string>): void {
    const state = this.#states.get(keyOf(image));
    const repositories = new Set(image.spec.repositories.filter(isListed).map(({ name }) => name));
    for (const reference of state?.images.keys() ?? []) {
      if (!references.has(reference)) state?.images.delete(reference);
    }
    for (const name of state?.lists.keys() ?? []) {
      if (!repositories.has(name)) state?.lists.delete(name);
    }
  }

  forget(imageKey: string): void {
    this.#states.delete(imageKey);
  }

  /** Looks again at a reference of which a node has a digest that it is not known to have named. */
  recheck(image: Image, reference: string, digest: string): void {
    const key = keyOf(image);
    const lookup = this.#states.get(key)?.images.get(reference);
    if (!lookup || lookup.found?.digest === digest) return;
    // One digest of an earlier time, on however many nodes, is one reason, and not for ever.
    const nowMs = this.#nowMs();
    const seenAtMs = lookup.seenAtMs.get(digest) ?? -Infinity;
    if (nowMs - seenAtMs < this.#options.intervalMs) return;
    remember(lookup.seenAtMs, digest, nowMs);
    this.#queue.addAfter(`${key} image ${reference}`, recheckMs - (nowMs - lookup.checkedAtMs));
  }

  /** What registries did not tell, first about lists. */
  problemsOf(imageKey: string): { images: LookupProblem[]; lists: LookupProblem[] } {
    const { images, lists } = this.#states.get(imageKey) ?? {};
    return { images: problemsIn(images?.values()), lists: problemsIn(lists?.values()) };
  }

  async #look(work: string, { signal }: Scope): Promise<Result> {
    const [key = "", kind, name = ""] = work.split(" ");
    const image = this.#options.images.get(key);
    const state = this.#states.get(key);
    const lookup = kind === "tags" ? state?.lists.get(name) : state?.images.get(name);
    if (!image || !lookup) {
      this.#turns.pass();
      return settled;
    }
    const { registry, path } = kind === "tags" ? parseRepository(name) : parseReference(name);
    const { namespace = "" } = image.metadata;
    using turn = this.#turns.enter(work, { host: registry, namespace });
    if (!turn) return settled; // It is called again.
    using deadline = new Deadline(lookMs, signal);
    const logins = this.#options.loginsFor(image, { registry, path });
    const options = { logins, signal: deadline.signal };
    const bounded = async <T>(look: () => Promise<T>): Promise<T> => {
      try {
        return await look();
      } catch (error) {
        if (!deadline.hasPassed) throw error;
        throw new RegistryError("UNREACHABLE", `no whole answer within ${lookMs / 1_000} s`);
      }
    };
    if ("filter" in lookup) {
      await this.#attempt(image, lookup, name, () =>
        bounded(() => this.#list(lookup.filter, name, options)),
      );
      return { requeueAfterMs: this.#waitMs(lookup) };
    }
    await this.#attempt(image, lookup, name, () =>
      bounded(() => this.#resolve(lookup, name, options)),
    );
    lookup.isFollowed = state?.isMoving(name) ?? false;
    return lookup.problem || lookup.isFollowed ? { requeueAfterMs: this.#waitMs(lookup) } : settled;
  }

  async #resolve(
    lookup: ImageLookup,
    reference: string,
    options: { logins: readonly Login[]; signal: AbortSignal },
  ): Promise<FoundImage> {
    const { registry, platforms } = this.#options;
    const { found } = lookup;
    lookup.checkedAtMs = this.#nowMs();
    const { digest } = await registry.resolve(reference, options);
    if (digest === found?.digest) return found;
    // Nodes may have it for long, which is no reason to look again soon.
    if (found) remember(lookup.seenAtMs, found.digest, this.#nowMs());
    const wanted = platforms();
    const isWanted = (platform: string): boolean => wanted.has(withoutVariant(platform));
    const sizes = await registry.sizes(reference, digest, { ...options, isWanted });
    return { digest, sizes: largestOf(sizes) };
  }

  async #list(
    filter: RepositorySpec["filter"],
    name: string,
    options: { logins: readonly Login[]; signal: AbortSignal },
  ): Promise<readonly string[]> {
    const { registry } = this.#options;
    const tags = await registry.tags(name, { ...options, maxTags });
    return filterTags(filter ?? {}, tags, { budgetMs: filterMs, signal: options.signal });
  }

  /** Keeps what `look` finds, or what went wrong. */
  async #attempt<T>(
    image: Image,
    lookup: Lookup<T>,
    name: string,
    look: () => Promise<T>,
  ): Promise<void> {
    const { lookups, log } = this.#options;
    const { found: before, problem } = lookup;
    try {
      lookup.found = await look();
      delete lookup.problem;
      delete lookup.retryAfterMs;
      lookup.failures = 0;
      lookups.inc({ result: "ok" });
      if (problem || !isDeepStrictEqual(lookup.found, before)) this.#tell(image);
    } catch (error) {
      const { reason, message, retryAfterMs = 0 } = failureOf(error);
      lookups.inc({ result: "error" });
      lookup.failures++;
      lookup.retryAfterMs = retryAfterMs;
      log.warn("registry did not tell", { image: name, reason, attempt: lookup.failures, error });
      // The same in other words is no news: a status must not change for ever.
      if (problem?.reason === reason) return;
      lookup.problem = { name, reason, message };
      this.#tell(image);
    }
  }

  /** How long to wait for the next look: spread, so that what came together does not stay together. */
  #waitMs({ problem, failures, retryAfterMs = 0 }: Lookup<unknown>): number {
    const { intervalMs, random } = this.#options;
    if (!problem) return intervalMs * (0.9 + random() * 0.2);
    return Math.max(fullJitter(failures, { ...backoff, random }), retryAfterMs);
  }

  /** Tells of an Image at once if nothing more is to come soon. */
  #tell(image: Image): void {
    const key = keyOf(image);
    this.#options.onFound(key, this.isOpen(key) ? gatherMs : 0);
  }

  #nowMs(): number {
    return this.#options.clock.now().getTime();
  }
}

/** Nodes know no variants: of several, the largest counts. */
function largestOf(sizes: readonly PlatformSize[]): PlatformSize[] {
  const largest = new Map<string, number>();
  for (const { platform, sizeBytes } of sizes) {
    const name = withoutVariant(platform);
    largest.set(name, Math.max(largest.get(name) ?? 0, sizeBytes));
  }
  return [...largest].map(([platform, sizeBytes]) => ({ platform, sizeBytes }));
}

/** `linux/arm64/v8` → `linux/arm64`. */
function withoutVariant(platform: string): string {
  return platform.split("/").slice(0, 2).join("/");
}

/** As the agents call it when a pull meets the same. */
const reasons: Record<RegistryError["code"], string> = {
  NOT_FOUND: "NotFound",
  DENIED: "Denied",
  THROTTLED: "Throttled",
  UNREACHABLE: "Unreachable",
  BAD_ANSWER: "BadAnswer",
  NOT_ALLOWED: "NotAllowed",
};

/** Says what went wrong. @throws what is no fault of a registry or a filter. */
function failureOf(error: unknown): { reason: string; message: string; retryAfterMs?: number } {
  if (error instanceof FilterTooSlowError) {
    return { reason: "FilterTooSlow", message: error.message };
  }
  if (!(error instanceof RegistryError)) throw error;
  const { code, reason: message, retryAfterMs } = error;
  return { reason: reasons[code], message, ...(retryAfterMs !== undefined && { retryAfterMs }) };
}

function isOpen(lookup: Lookup<unknown> | undefined): boolean {
  return !lookup?.found && !lookup?.problem;
}

function problemsIn(lookups: Iterable<Lookup<unknown>> = []): LookupProblem[] {
  return [...lookups].flatMap(({ problem }) => problem ?? []);
}

function newState({ metadata: { uid = "" } }: Image, revision: string | undefined): ImageState {
  const maps = { images: new Map(), lists: new Map() };
  return { uid, generation: undefined, revision, isMoving: never, ...maps };
}

function never(): boolean {
  return false;
}

function newImageLookup(found?: FoundImage): ImageLookup {
  const common = { failures: 0, seenAtMs: new Map(), checkedAtMs: -Infinity, isFollowed: false };
  return found ? { ...common, found } : common;
}

/** Which references of an Image may come to name something else, and are to be followed then. */
function movingIn({ spec }: Image): (reference: string) => boolean {
  const listed = spec.repositories.filter(isListed).flatMap(({ name }) => prefixOf(name) ?? []);
  const isAlways = spec.imagePullPolicy === "Always";
  return (reference) =>
    !reference.includes("@") && (isAlways || listed.some((prefix) => reference.startsWith(prefix)));
}

function isListed({ listSelection }: RepositorySpec): boolean {
  return listSelection === "all";
}

function tagsInPlan(
  plan: ImagePlanSpec | undefined,
  { name }: RepositorySpec,
): string[] | undefined {
  const prefix = prefixOf(name);
  if (prefix === undefined) return undefined;
  const tags = plan?.images
    .filter(({ reference }) => reference.startsWith(prefix) && !reference.includes("@"))
    .map(({ reference }) => reference.slice(prefix.length));
  return tags && tags.length > 0 ? tags : undefined;
}

/** What stands before the tag in the references of a repository; `undefined` if it can have none. */
function prefixOf(name: string): string | undefined {
  try {
    const { registry, path } = parseRepository(name);
    return `${registry}/${path}:`;
  } catch (error) {
    if (error instanceof InvalidReferenceError) return undefined;
    throw error;
  }
}

function remember(seenAtMs: Map<string, number>, digest: string, nowMs: number): void {
  seenAtMs.delete(digest);
  seenAtMs.set(digest, nowMs);
  const [oldest] = seenAtMs.keys();
  if (seenAtMs.size > maxSeen && oldest !== undefined) seenAtMs.delete(oldest);
}

function keyOf({ metadata: { namespace, name } }: Image): string {
  return `${namespace}/${name}`;
}
