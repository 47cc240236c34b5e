import { FairSlots, shareOf, type Parties } from "./fair-slots.ts";
import { Tally } from "./tally.ts";
import { Turnstile } from "./turnstile.ts";

/** How much may be going on at the same time. */
export interface HostBounds {
  /** Tags in all. */
  readonly total: number;
  /** Tags of one source's host. */
  readonly perSource: number;
  /** Tags to one target's host. */
  readonly perTarget: number;
  /** Blobs from one source's host. */
  readonly blobsPerSource: number;
}

/** Tags mostly wait for blobs, so there are more of them. */
export const defaultBounds: HostBounds = {
  total: 64,
  perSource: 16,
  perTarget: 64,
  blobsPerSource: 8,
};

/** Which part of `total` and of `perTarget` one source's host may have, so that slow ones leave room. */
const maxShare = 1 / 4;

/** How far `total` and `perTarget` may be passed for sources' hosts that have nothing under way. */
const maxExcess = 2;

/** From which host to which one, and for whom. Who calls it decides what is one host: perhaps host and login. */
export interface Hosts {
  readonly source: string;
  readonly target: string;
  /** Among themselves those of one host are fair by these. */
  readonly parties: Parties;
}

/**
 * Caps how many tags are copied at the same time: in all, from one host, and to one host. Share one within
 * a process.
 *
 * Waiters enter in the order they came, except that those whose host is busy let others pass: a registry
 * that is slow delays nobody but its own. No source's host gets more than a quarter of what there is, and
 * one that has nothing under way enters even where all is taken, up to twice the bounds. Within a source's
 * host a party that has nothing under way there does the same: images that are huge delay no one else's. Tags
 * of a source's host that is held only wait, and take no room from others.
 */
export class HostSlots {
  readonly #bounds: HostBounds;
  /** Of sources' hosts that are not held, by target's host. */
  readonly #busy = new Tally();
  /** Of each source's host that something is copied from. */
  readonly #sources = new Map<string, SourceTally>();
  /** How often each source's host is held. */
  readonly #holds = new Tally();
  readonly #blobs = new Map<string, WeakRef<FairSlots>>();
  readonly #turnstile = new Turnstile<Hosts>({
    keyOf: ({ source, target, parties }) => JSON.stringify([source, target, ...parties]),
    hasRoom: (hosts) => this.#hasRoom(hosts),
    count: (hosts, change) => this.#count(hosts, change),
  });

  constructor(bounds: Partial<HostBounds> = {}) {
    this.#bounds = { ...defaultBounds, ...bounds };
  }

  /** The slots for blobs of a source's host. They are the same as long as anybody holds them. */
  blobSlots(source: string): FairSlots {
    const known = this.#blobs.get(source)?.deref();
    if (known) return known;
    for (const [host, slots] of this.#blobs) if (!slots.deref()) this.#blobs.delete(host);
    const slots = new FairSlots(this.#bounds.blobsPerSource);
    this.#blobs.set(source, new WeakRef(slots));
    return slots;
  }

  /**
   * Waits until both hosts have room for one more tag. Disposing what it returns makes room again.
   *
   * @throws the signal's reason, if aborted while waiting.
   */
  async acquire(hosts: Hosts, { signal }: { signal: AbortSignal }): Promise<Disposable> {
    return await this.#turnstile.acquire(hosts, { signal });
  }

  /**
   * Notes that a source's host wants to be left alone: until what it returns is disposed, tags that are copied
   * from it count only among its own.
   */
  hold(source: string): Disposable {
    if (this.#holds.of(source) === 0) this.#recount(source, -1);
    this.#holds.count([source], 1);
    this.#turnstile.admit();
    return {
      [Symbol.dispose]: () => {
        this.#holds.count([source], -1);
        if (this.#holds.of(source) === 0) this.#recount(source, 1);
      },
    };
  }

  #hasRoom({ source, target, parties }: Hosts): boolean {
    const { total, perSource, perTarget } = this.#bounds;
    const { parties: ofSource } = this.#sources.get(source) ?? nothing;
    const most = Math.min(perSource, partOf(perTarget), partOf(total));
    const share = shareOf(parties, ofSource);
    const excess = ofSource.total === 0 || share > 1 ? maxExcess : 1;
    return (
      ofSource.total < most * share &&
      this.#busy.total < total * excess &&
      this.#busy.of(target) < perTarget * excess
    );
  }

  #count({ source, target, parties }: Hosts, change: 1 | -1): void {
    const own = this.#sources.get(source) ?? { parties: new Tally(), targets: new Tally() };
    own.parties.count(parties, change);
    own.targets.count([target], change);
    if (own.parties.total === 0) this.#sources.delete(source);
    else this.#sources.set(source, own);
    if (this.#holds.of(source) === 0) this.#busy.count([target], change);
  }

  /** Counts all tags of a source's host in, or out. */
  #recount(source: string, change: 1 | -1): void {
    for (const [target, count] of this.#sources.get(source)?.targets.entries() ?? []) {
      for (let counted = 0; counted < count; counted++) this.#busy.count([target], change);
    }
  }
}

/** What is copied from one source's host. */
interface SourceTally {
  readonly parties: Tally;
  readonly targets: Tally;
}

const nothing: SourceTally = { parties: new Tally(), targets: new Tally() };

function partOf(bound: number): number {
  return Math.max(1, Math.floor(bound * maxShare));
}
