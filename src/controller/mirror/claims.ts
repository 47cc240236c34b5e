import { repositoryKey } from "#api/v1/destination.ts";
import type { Mirror } from "#api/v1/mirror.ts";
import { formatKey, keyOf } from "#kube/key.ts";
import { parseRepository } from "#oci/reference.ts";
import { sourcesOf, type Copy, type Sources } from "./sources.ts";

/** A Mirror that wants to write to a repository. */
export interface Claimant {
  /** `namespace/name` of the Mirror. */
  readonly mirror: string;
  readonly createdMs: number;
  readonly copy: Copy;
}

/** A copy that another Mirror is in the way of. */
export interface LostCopy {
  readonly copy: Copy;
  /** `namespace/name` of the Mirror that writes there. */
  readonly holder: string;
}

/** What a Mirror may copy, and what not. */
export interface Verdict {
  readonly copies: readonly Copy[];
  readonly lost: readonly LostCopy[];
  readonly refusals: Sources["refusals"];
}

interface Known {
  readonly uid: string | undefined;
  readonly generation: number | undefined;
  readonly sources: Sources;
  /** By the key of the target. */
  readonly claims: ReadonlyMap<string, Claimant>;
}

/** All who want to write to one repository. */
interface Contest {
  readonly claimants: Map<string, Claimant>;
  holder: Claimant;
}

/**
 * Decides which Mirror of the cluster writes to a repository: of several that want to, the oldest; of those that
 * were made in the same second, the first by namespace and name. A change of one Mirror costs no more than what
 * it names, and what those lose or win who want the same.
 */
export class Claims {
  readonly #mirrors = new Map<string, Known>();
  /** By the key of the target. */
  readonly #contests = new Map<string, Contest>();
  /** By the key of the source, what Mirrors take of it. */
  readonly #readers = new Map<string, Map<string, Copy>>();

  /**
   * Takes note of a Mirror.
   *
   * @returns keys of other Mirrors that win or lose something, lose it to somebody else, or now have it alone;
   * and of those that write where it copies from.
   */
  set(mirror: Mirror): Set<string> {
    const key = formatKey(keyOf(mirror));
    const { uid, generation, creationTimestamp } = mirror.metadata;
    const known = this.#mirrors.get(key);
    // Most changes are of the status.
    const isSame = known && known.uid === uid && known.generation === generation;
    if (isSame && generation !== undefined) return new Set();
    const sources = sourcesOf(mirror);
    const createdMs = millisecondsOf(creationTimestamp);
    const claims = new Map(
      sources.copies.map((copy) => [
        repositoryKey(parseRepository(copy.target)),
        { mirror: key, createdMs, copy },
      ]),
    );
    const affected = new Set<string>();
    for (const target of known?.claims.keys() ?? []) {
      if (!claims.has(target)) this.#withdraw(target, key, affected);
    }
    this.#forgetReader(key, affected);
    this.#mirrors.set(key, { uid, generation, sources, claims });
    for (const copy of sources.copies) {
      const source = repositoryKey(parseRepository(copy.source));
      const readers = this.#readers.get(source) ?? new Map<string, Copy>();
      this.#readers.set(source, readers.set(key, copy));
      this.#tellWriter(source, affected);
    }
    for (const [target, claimant] of claims) this.#enter(target, claimant, affected);
    affected.delete(key);
    return affected;
  }

  /** Forgets a Mirror. @returns as `set` does. */
  delete(key: string): Set<string> {
    const affected = new Set<string>();
    for (const target of this.#mirrors.get(key)?.claims.keys() ?? []) {
      this.#withdraw(target, key, affected);
    }
    this.#forgetReader(key, affected);
    this.#mirrors.delete(key);
    affected.delete(key);
    return affected;
  }

  /** What a Mirror may copy; `undefined` if it is not known. */
  verdictOf(key: string): Verdict | undefined {
    const known = this.#mirrors.get(key);
    if (!known) return undefined;
    const copies: Copy[] = [];
    const lost: LostCopy[] = [];
    for (const [target, { copy }] of known.claims) {
      const holder = this.#contests.get(target)?.holder.mirror ?? key;
      if (holder === key) copies.push(copy);
      else lost.push({ copy, holder });
    }
    return { copies, lost, refusals: known.sources.refusals };
  }

  /** All Mirrors that want to write to a repository, whether they may or not. */
  claimantsOf(targetKey: string): readonly Claimant[] {
    return [...(this.#contests.get(targetKey)?.claimants.values() ?? [])];
  }

  /** All Mirrors that copy from a repository, and what they take of it. */
  readersOf(sourceKey: string): ReadonlyMap<string, Copy> {
    return this.#readers.get(sourceKey) ?? new Map<string, Copy>();
  }

  #forgetReader(key: string, affected: Set<string>): void {
    for (const { source } of this.#mirrors.get(key)?.sources.copies ?? []) {
      const name = repositoryKey(parseRepository(source));
      const readers = this.#readers.get(name);
      readers?.delete(key);
      if (readers?.size === 0) this.#readers.delete(name);
      this.#tellWriter(name, affected);
    }
  }

  /** What others copy from there is not removed. */
  #tellWriter(source: string, affected: Set<string>): void {
    const writer = this.#contests.get(source)?.holder;
    if (writer) affected.add(writer.mirror);
  }

  #enter(target: string, claimant: Claimant, affected: Set<string>): void {
    const contest = this.#contests.get(target);
    if (!contest) {
      const claimants = new Map([[claimant.mirror, claimant]]);
      this.#contests.set(target, { claimants, holder: claimant });
      return;
    }
    const { claimants, holder } = contest;
    claimants.set(claimant.mirror, claimant);
    if (holder.mirror === claimant.mirror) this.#give(contest, oldestOf(claimants), affected);
    else this.#give(contest, isBefore(claimant, holder) ? claimant : holder, affected);
  }

  #withdraw(target: string, key: string, affected: Set<string>): void {
    const contest = this.#contests.get(target);
    if (!contest) return;
    const { claimants, holder } = contest;
    claimants.delete(key);
    if (claimants.size === 0) this.#contests.delete(target);
    else this.#give(contest, holder.mirror === key ? oldestOf(claimants) : holder, affected);
  }

  /** If another one has it now, everybody else's status names the wrong one. */
  #give(contest: Contest, holder: Claimant, affected: Set<string>): void {
    const before = contest.holder.mirror;
    contest.holder = holder;
    // What others want there is not removed.
    affected.add(holder.mirror);
    if (holder.mirror === before) return;
    for (const mirror of contest.claimants.keys()) affected.add(mirror);
  }
}

/** Takes time when thousands want the same: it is asked for only if who had it may have it no more. */
function oldestOf(claimants: ReadonlyMap<string, Claimant>): Claimant {
  return [...claimants.values()].reduce((a, b) => (isBefore(b, a) ? b : a));
}

function isBefore(a: Claimant, b: Claimant): boolean {
  if (a.createdMs !== b.createdMs) return a.createdMs < b.createdMs;
  return a.mirror < b.mirror;
}

/** What has no time of creation is taken for the newest. */
function millisecondsOf(time: string | undefined): number {
  const ms = Date.parse(time ?? "");
  return Number.isNaN(ms) ? Infinity : ms;
}
