import { isDeepStrictEqual } from "node:util";

import type { Image } from "#api/v1/image.ts";
import type { ImagePlanSpec } from "#api/v1/image-plan.ts";
import { fullJitter } from "#async/backoff.ts";
import type { Clock } from "#async/clock.ts";
import { formatKey, keyOf } from "#kube/key.ts";
import type { Lister } from "#kube/lister.ts";
import { settled, type Result } from "#kube/reconcile.ts";
import { WorkQueue } from "#kube/work-queue.ts";
import { parseReference, parseRepository, type Repository } from "#oci/reference.ts";
import type { Login } from "#remote/keyring.ts";
import type { Log } from "#telemetry/log.ts";
import type { Counter, Registry } from "#telemetry/metrics.ts";
import { tagsInPlan, type RepositorySpec } from "./listed-tags.ts";
import {
  ImageLookups,
  newImageLookup,
  rememberSeen,
  type ImageLookup,
  type Lookup,
  type LookupProblem,
} from "./lookups.ts";
import { LookupTurns } from "./lookup-turns.ts";
import type { FoundImage } from "./plan.ts";
import {
  lookupFailure,
  lookUpImage,
  lookUpTags,
  type RegistryLookup,
  type SizedImage,
} from "./registry-lookup.ts";

/** Requests to registries at the same time, of all Images together. They only wait. */
const workers = 64;

/** After a failure. Registries are others' machines: they are not pressed. */
const backoff = { minMs: 5_000, maxMs: 10 * 60_000 };

/** How soon a tag that nodes found moved is looked at again. */
const recheckMs = 10_000;

/** How long what is found waits for the rest, so that a plan is not written for each image of many. */
const gatherMs = 5_000;

type Scope = { signal: AbortSignal };

export interface ResolverOptions {
  registry: RegistryLookup;
  images: Lister<Image>;
  /** The logins that an Image may use for a repository, the most fitting first. */
  loginsFor: (image: Image, repository: Repository, scope: Scope) => Promise<readonly Login[]>;
  /** The platforms of the cluster's nodes, like `linux/arm64`; another set when they are others. */
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
  /** By Image. */
  readonly #lookups = new Map<string, ImageLookups>();
  readonly #turns = new LookupTurns((work) => this.#queue.add(work));

  constructor(options: ResolverOptions) {
    const { clock, random, metrics } = options;
    this.#options = options;
    this.#queue = new WorkQueue({ name: "registry", clock, random, backoff, metrics });
  }

  /** Asks registries until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const { log } = this.#options;
    await this.#queue.run((work, scope) => this.#look(work, scope), { workers, log, signal });
  }

  /**
   * Tells what is known of an Image, after it has seen to it that the rest is asked for.
   *
   * @param plan - what an earlier leader knew.
   * @param revision - of the Image's logins; with another one, what failed is asked again.
   */
  begin(image: Image, plan: ImagePlanSpec | undefined, revision: string | undefined): void {
    const key = formatKey(keyOf(image));
    const known = this.#lookups.get(key);
    const isSame = known !== undefined && known.uid === (image.metadata.uid ?? "");
    const lookups = isSame ? known : new ImageLookups(image, revision);
    this.#lookups.set(key, lookups);
    lookups.follow(image);
    for (const { reference, digest, sizes = [] } of isSame ? [] : (plan?.images ?? [])) {
      if (digest === undefined) continue;
      // What it lacks may be of a platform that has joined since, or one that the image is not for.
      const platforms = new Set(sizes.map(({ platform }) => platform));
      const lookup = newImageLookup({ digest, sizes, platforms });
      lookups.images.set(reference, lookup);
      if (this.#lacksSizes(lookup)) this.#addLater(`${key} image ${reference}`);
    }
    if (lookups.revision === revision) return;
    lookups.revision = revision;
    for (const [kind, all] of [
      ["image", lookups.images],
      ["tags", lookups.lists],
    ] as const) {
      for (const [name, lookup] of all) {
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
    const key = formatKey(keyOf(image));
    const lists = this.#lookups.get(key)?.lists;
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
    const key = formatKey(keyOf(image));
    const lookups = this.#lookups.get(key);
    const work = `${key} image ${reference}`;
    const lookup = lookups?.images.get(reference);
    if (!lookup) {
      lookups?.images.set(reference, newImageLookup());
      this.#queue.add(work);
      return undefined;
    }
    if (lookup.found && !lookup.isFollowed && lookups?.isMoving(reference)) {
      lookup.isFollowed = true;
      this.#addLater(work);
    }
    return lookup.found && { digest: lookup.found.digest, sizes: lookup.found.sizes };
  }

  /** Whether something of an Image, or one of its references, was neither found nor failed yet. */
  isOpen(imageKey: string, reference?: string): boolean {
    return this.#lookups.get(imageKey)?.isOpen(reference) ?? reference !== undefined;
  }

  /** Forgets everything of an Image that it no longer asks for. */
  keepOnly(image: Image, references: ReadonlySet<string>): void {
    this.#lookups.get(formatKey(keyOf(image)))?.keepOnly(image, references);
  }

  forget(imageKey: string): void {
    this.#lookups.delete(imageKey);
  }

  /** Looks again at a reference of which a node has a digest that it is not known to have named. */
  recheck(image: Image, reference: string, digest: string): void {
    const key = formatKey(keyOf(image));
    const lookup = this.#lookups.get(key)?.images.get(reference);
    if (!lookup || lookup.found?.digest === digest) return;
    // One digest of an earlier time, on however many nodes, is one reason, and not for ever.
    const nowMs = this.#nowMs();
    const seenAtMs = lookup.seenAtMs.get(digest) ?? -Infinity;
    if (nowMs - seenAtMs < this.#options.intervalMs) return;
    rememberSeen(lookup, digest, nowMs);
    this.#queue.addAfter(`${key} image ${reference}`, recheckMs - (nowMs - lookup.checkedAtMs));
  }

  /** Reads the sizes for platforms that have joined the cluster. */
  readNewSizes(): void {
    for (const [key, { images }] of this.#lookups) {
      for (const [reference, lookup] of images) {
        if (this.#lacksSizes(lookup)) this.#queue.add(`${key} image ${reference}`);
      }
    }
  }

  /** What registries did not tell, first about lists. */
  problemsOf(imageKey: string): { images: LookupProblem[]; lists: LookupProblem[] } {
    return this.#lookups.get(imageKey)?.problems() ?? { images: [], lists: [] };
  }

  async #look(work: string, { signal }: Scope): Promise<Result> {
    const { images, registry, loginsFor } = this.#options;
    const [key = "", kind, name = ""] = work.split(" ");
    const image = images.get(key);
    const lookups = this.#lookups.get(key);
    const lookup = kind === "tags" ? lookups?.lists.get(name) : lookups?.images.get(name);
    if (!image || !lookups || !lookup) {
      this.#turns.pass();
      return settled;
    }
    const { registry: host, path } = kind === "tags" ? parseRepository(name) : parseReference(name);
    const { namespace = "" } = image.metadata;
    using turn = this.#turns.enter(work, { host, namespace });
    if (!turn) return settled; // It is called again.
    const options = {
      logins: await loginsFor(image, { registry: host, path }, { signal }),
      signal,
    };
    if ("filter" in lookup) {
      const { filter = {} } = lookup;
      await this.#attempt(image, lookup, name, () =>
        lookUpTags(registry, name, { ...options, filter }),
      );
      return { requeueAfterMs: this.#waitMs(lookup) };
    }
    await this.#attempt(image, lookup, name, () => this.#resolve(lookup, name, options));
    lookup.isFollowed = lookups.isMoving(name);
    if (this.#lacksSizes(lookup)) return { requeueAfterMs: 0 }; // A platform joined meanwhile.
    return lookup.problem || lookup.isFollowed ? { requeueAfterMs: this.#waitMs(lookup) } : settled;
  }

  async #resolve(
    lookup: ImageLookup,
    reference: string,
    options: { logins: readonly Login[]; signal: AbortSignal },
  ): Promise<SizedImage> {
    const { registry } = this.#options;
    const { found: known } = lookup;
    const platforms = this.#options.platforms();
    lookup.checkedAtMs = this.#nowMs();
    const found = await lookUpImage(registry, reference, { ...options, known, platforms });
    // Nodes may have it for long, which is no reason to look again soon.
    if (known && known.digest !== found.digest) rememberSeen(lookup, known.digest, this.#nowMs());
    return found;
  }

  /** Looks some time within an interval, so that a new leader does not look at everything at once. */
  #addLater(work: string): void {
    this.#queue.addAfter(work, this.#options.random() * this.#options.intervalMs);
  }

  /** Whether sizes are to be read that are not being asked for anyway. */
  #lacksSizes({ found, problem }: ImageLookup): boolean {
    return !!found && !problem && !this.#options.platforms().isSubsetOf(found.platforms);
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
      const { reason, message, retryAfterMs = 0 } = lookupFailure(error);
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
    const key = formatKey(keyOf(image));
    this.#options.onFound(key, this.isOpen(key) ? gatherMs : 0);
  }

  #nowMs(): number {
    return this.#options.clock.now().getTime();
  }
}
