import { repositoryKey } from "#api/v1/destination.ts";
import type { MirrorShard, MirrorShardSpec } from "#api/v1/mirror-shard.ts";
import type { Mirror } from "#api/v1/mirror.ts";
import { formatKey, keyOf } from "#kube/key.ts";
import { parseRepository } from "#oci/reference.ts";
import type { Claims } from "./claims.ts";
import { digestKey, tagKey } from "./image-keys.ts";
import { type Copy, type MirroredRepository } from "./sources.ts";
import type { Candidate } from "./status.ts";

/** Knows who in the cluster refers to an image. */
export interface ImageUsers {
  /** Names one that refers to what a key of `image-keys.ts` stands for: its kind, namespace and name. */
  userOf(key: string): string | undefined;
}

export interface RemovalFacts {
  readonly mirror: Mirror;
  readonly claims: Pick<Claims, "claimantsOf" | "readersOf">;
  /** `undefined` while not all of the cluster is known. */
  readonly users: ImageUsers | undefined;
  readonly now: Date;
}

/** What the status has room for. */
const maxKeeperChars = 316;

/** Other Mirrors of one repository that are looked at. Where there are more, everything stays. */
const maxOthers = 16;

/** What Mirrors take of a repository, as far as can be said without a registry. */
interface Selected {
  /** By tag or digest, a Mirror that names it. */
  readonly named: Map<string, string>;
  /** A Mirror that may take any tag. */
  anything: string | undefined;
}

/** What is to be known of a repository before its copies can be judged. */
interface Place {
  readonly target: string;
  readonly source: string;
  readonly selected: Selected;
}

/** Decides which copies that are no longer asked for may go. Made for one moment: it remembers what it found. */
export class RemovalCheck {
  readonly #facts: RemovalFacts;
  readonly #places = new Map<Copy, Place>();

  constructor(facts: RemovalFacts) {
    this.#facts = facts;
  }

  /**
   * Which copies may go now: those that are due, and that nothing in the cluster refers to. As long as the worker
   * has not seen what the shard asks for, it may have told of something else: none are added until then.
   */
  approved(
    copy: Copy,
    { metadata, spec, status }: MirrorShard,
  ): NonNullable<MirrorShardSpec["removals"]> {
    const { mirror, users, now } = this.#facts;
    const { removalPolicy, suspend } = mirror.spec;
    if (removalPolicy !== "Delete" || suspend || !users) return [];
    const isSeen = status?.observedGeneration === metadata.generation;
    const before = new Map(spec.removals?.map(({ tag, digest }) => [tag, digest]));
    return (status?.removals ?? [])
      .filter(({ tag, digest }) => isSeen || before.get(tag) === digest)
      .filter((candidate) => dueInMs(candidate, now) <= 0)
      .filter((candidate) => this.keeperOf(copy, candidate) === undefined)
      .map(({ tag, digest }) => ({ tag, digest }));
  }

  /**
   * Names one who keeps a copy: a Mirror that selects its tag or its digest for the same target, or that copies
   * it from there; or what refers to it at its target, or at its source, since pods may be led from there to the
   * copy at any time.
   */
  keeperOf(copy: Copy, { tag, digest }: Candidate): string | undefined {
    const { target, source, selected } = this.#placeOf(copy);
    const mirror = selected.named.get(tag) ?? selected.named.get(digest) ?? selected.anything;
    if (mirror !== undefined) return `Mirror ${mirror}`.slice(0, maxKeeperChars);
    const keys = [target, source].flatMap((key) => [tagKey(key, tag), digestKey(key, digest)]);
    for (const key of keys) {
      const user = this.#facts.users?.userOf(key);
      if (user !== undefined) return user.slice(0, maxKeeperChars);
    }
    return undefined;
  }

  #placeOf(copy: Copy): Place {
    const known = this.#places.get(copy);
    if (known) return known;
    const target = repositoryKey(parseRepository(copy.target));
    const source = repositoryKey(parseRepository(copy.source));
    const place = { target, source, selected: this.#selectedOf(target) };
    this.#places.set(copy, place);
    return place;
  }

  #selectedOf(target: string): Selected {
    const { mirror, claims } = this.#facts;
    const selected: Selected = { named: new Map(), anything: undefined };
    const own = formatKey(keyOf(mirror));
    const claimants = claims.claimantsOf(target);
    for (const { mirror: key, copy } of claimants.slice(0, maxOthers)) {
      addNamed(selected, key, copy.repository);
      // What this Mirror takes of "all" its worker knows. Another's filter would have to be asked about.
      const isOther = key !== own && copy.repository.listSelection === "all";
      if (isOther) selected.anything ??= key;
    }
    // One that copies all that is there loses nothing by having less to copy.
    const readers = [...claims.readersOf(target)];
    for (const [key, { repository }] of readers.slice(0, maxOthers)) {
      addNamed(selected, key, repository);
    }
    selected.anything ??= claimants[maxOthers]?.mirror ?? readers[maxOthers]?.[0];
    return selected;
  }
}

/** Adds what a Mirror names itself. Without any tag or digest, it is `latest`. */
function addNamed({ named }: Selected, mirror: string, repository: MirroredRepository): void {
  const { tags = [], digests = [], listSelection } = repository;
  const isImplied = tags.length + digests.length === 0 && listSelection === "listed";
  for (const name of isImplied ? ["latest"] : [...tags, ...digests]) named.set(name, mirror);
}

/** In how many milliseconds the next copy becomes due; `undefined` if none will. */
export function nextDueMs(shards: readonly MirrorShard[], now: Date): number | undefined {
  const waits = shards
    .flatMap(({ status }) => status?.removals ?? [])
    .map((candidate) => dueInMs(candidate, now))
    .filter((ms) => ms > 0 && ms < Infinity);
  return waits.length > 0 ? Math.min(...waits) : undefined;
}

function dueInMs({ dueTime }: Candidate, now: Date): number {
  const dueMs = Date.parse(dueTime);
  return Number.isNaN(dueMs) ? Infinity : dueMs - now.getTime();
}
