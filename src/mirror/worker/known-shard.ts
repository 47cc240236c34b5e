import type { MirrorShard } from "#api/v1/mirror-shard.ts";
import { fullJitter } from "#async/backoff.ts";

/** After a run that could not tell how it went. What fails within a run is in the shard's status. */
const backoff = { minMs: 1_000, maxMs: 5 * 60_000 };

/** The least time between two runs of a shard, whatever its status says. */
const restMs = 1_000;

/** How long the last write of a run may be in coming back before it is taken for lost. */
const maxLagMs = 30_000;

/** How long a claim may be on its way out before it is taken out. */
const claimMs = 5_000;

/** What a worker remembers of a shard from one look to the next. Times are in milliseconds since 1970. */
export class KnownShard {
  #failures = 0;
  #restUntilMs = -Infinity;
  /** The version that the last run began with, and when it ended; it wrote others. */
  #ran: { readonly version: string | undefined; readonly endedAtMs: number } | undefined;
  #claimedSinceMs: number | undefined;

  /** Whether a registry is to be asked something else than before. */
  isAskedAnew = false;
  /** Whether it was when the last run began. */
  #wasAskedAnew = false;

  /** Revision of the Secrets that the last run used. */
  secrets: string | undefined;

  /** How often in a row a run could not tell how it went. */
  get failures(): number {
    return this.#failures;
  }

  /** Before which it is not run. */
  get restUntilMs(): number {
    return this.#restUntilMs;
  }

  /** Notes that it is to be done otherwise from now on, so that failures so far mean nothing. */
  change({ isAskedAnew }: { isAskedAnew: boolean }): void {
    this.#failures = 0;
    this.#restUntilMs = -Infinity;
    this.isAskedAnew ||= isAskedAnew;
  }

  /** Notes that a run begins. */
  begin(secrets: string | undefined): void {
    this.#wasAskedAnew = this.isAskedAnew;
    this.isAskedAnew = false;
    this.secrets = secrets;
    this.#ran = undefined;
    this.#claimedSinceMs = undefined;
  }

  /** Notes that a run has written how it went. @param shard - as it was when the run began. */
  end({ metadata }: MirrorShard, nowMs: number): void {
    this.#failures = 0;
    this.#restUntilMs = nowMs + restMs;
    this.#ran = { version: metadata.resourceVersion, endedAtMs: nowMs };
  }

  /** Notes that a run did not come to its end: what is asked anew is still to be asked. */
  interrupt(): void {
    this.isAskedAnew ||= this.#wasAskedAnew;
  }

  /** Notes that a run could not write how it went. */
  fail(nowMs: number, random: () => number): void {
    this.interrupt();
    this.#failures++;
    this.#restUntilMs = nowMs + fullJitter(this.#failures, { ...backoff, random });
  }

  /** For how much longer this may not yet be what the last run wrote; 0 if it is. */
  lagLeftMs({ metadata, status }: MirrorShard, identity: string, nowMs: number): number {
    const ran = this.#ran;
    if (!ran) return 0;
    const isBehind = metadata.resourceVersion === ran.version || status?.worker === identity;
    return isBehind ? Math.max(0, ran.endedAtMs + maxLagMs - nowMs) : 0;
  }

  /** For how much longer a claim of nothing that is going on may be left to go by itself. */
  claimLeftMs(nowMs: number): number {
    this.#claimedSinceMs ??= nowMs;
    return Math.max(0, this.#claimedSinceMs + claimMs - nowMs);
  }

  /** Notes that there is no such claim, or that it was taken out. */
  forgetClaim(): void {
    this.#claimedSinceMs = undefined;
  }
}
