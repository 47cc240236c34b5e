import type { Lease } from "#kube/types.ts";

/** A Lease that names no duration, or one that makes no sense, is taken to have the usual one. */
const maxDurationMs = 10 * 60_000;

/** For how many durations nobody has renewed a Lease that is thrown away. */
const staleAfter = 4;

interface Seen {
  readonly lease: Lease;
  readonly holder: string;
  readonly durationMs: number;
  /** When it was seen to change, by the clock of this object. */
  readonly atMs: number;
}

/**
 * Knows whose Leases are good, as seen from here: those that changed within their duration. Nobody reads
 * another's clock.
 *
 * Time passes only with `tick`, which says that whatever had been renewed by then has been seen. So nobody is
 * taken for dead because a watch is behind, or because a clock jumped.
 */
export class LiveLeases {
  readonly #durationMs: number;
  readonly #seen = new Map<string, Seen>();
  #timeMs = 0;
  #tickedAtMs: number | undefined;

  /** @param durationMs - of a Lease, as far as this worker is set up; the others may be otherwise. */
  constructor(durationMs: number) {
    this.#durationMs = durationMs;
  }

  /**
   * Takes a version of a Lease.
   *
   * @param nowMs - of the clock that `tick` is told of.
   */
  see(lease: Lease, nowMs: number): void {
    const { name, resourceVersion } = lease.metadata;
    const { holderIdentity: holder = "", leaseDurationSeconds = 0 } = lease.spec ?? {};
    if (holder === "") return this.forget(name);
    if (this.#seen.get(name)?.lease.metadata.resourceVersion === resourceVersion) return;
    const givenMs = leaseDurationSeconds * 1_000;
    const durationMs = givenMs > 0 && givenMs <= maxDurationMs ? givenMs : this.#durationMs;
    this.#seen.set(name, { lease, holder, durationMs, atMs: this.#timeMs + this.#sinceMs(nowMs) });
  }

  /** Notes that a Lease is gone. */
  forget(name: string): void {
    this.#seen.delete(name);
  }

  /** Lets time pass: all that had happened by then has been told to `see`. */
  tick(nowMs: number): void {
    this.#timeMs += this.#sinceMs(nowMs);
    this.#tickedAtMs = nowMs;
  }

  /** Those who hold a Lease that is good. */
  get holders(): Set<string> {
    const good = [...this.#seen.values()].filter((seen) => this.#leftMs(seen) > 0);
    return new Set(good.map(({ holder }) => holder));
  }

  /** Leases that nobody has renewed for long. */
  get stale(): readonly Lease[] {
    const old = [...this.#seen.values()].filter(
      (seen) => this.#leftMs(seen) <= (1 - staleAfter) * seen.durationMs,
    );
    return old.map(({ lease }) => lease);
  }

  /** How long after the last tick the next Lease runs out if nobody renews it; `undefined` if none does. */
  get leftMs(): number | undefined {
    const left = [...this.#seen.values()].map((seen) => this.#leftMs(seen));
    const positive = left.filter((ms) => ms > 0);
    return positive.length > 0 ? Math.min(...positive) : undefined;
  }

  #leftMs({ atMs, durationMs }: Seen): number {
    return atMs + durationMs - this.#timeMs;
  }

  /** A gap in which nothing was seen, or a clock that jumped, makes nobody older than this. */
  #sinceMs(nowMs: number): number {
    const sinceMs = nowMs - (this.#tickedAtMs ?? nowMs);
    return Math.min(Math.max(sinceMs, 0), this.#durationMs / 2);
  }
}
