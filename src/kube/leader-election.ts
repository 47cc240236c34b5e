import { isAbort } from "#async/abort.ts";
import type { Clock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import type { Log } from "#telemetry/log.ts";
import type { KubeClient } from "./client.ts";
import { ApiError } from "./errors.ts";
import { formatMicroTime } from "./micro-time.ts";
import { leases } from "./resource.ts";
import type { Lease } from "./types.ts";

export interface LeaderElectionOptions {
  client: Pick<KubeClient, "get" | "create" | "replace">;
  namespace: string;
  /** The lease's name: one leader for each. */
  name: string;
  /** Unique among the candidates, also over restarts: a pod's name. */
  identity: string;
  clock: Clock;
  log: Log;
  /** How long others wait for a sign of the leader before they take over. */
  leaseDurationMs?: number;
  /** How long a leader leads without one; the rest of the duration is its time to stop. */
  renewDeadlineMs?: number;
  retryPeriodMs?: number;
  signal: AbortSignal;
}

/**
 * Waits to become the leader, and leads; again and again, until aborted or `lead` ends by itself.
 *
 * At most one candidate leads at a time, if their clocks run at the same speed: nobody reads
 * another's clock. A lease is free when it did not change for its duration as seen from here
 * (client-go's leaderelection.go). A leader that cannot renew stops before that: `lead`'s signal
 * is aborted `renewDeadlineMs` after the last renewal was sent, and `lead` has the rest of the
 * duration to settle. The lease is given up only when it has.
 *
 * @param lead - runs while leading. Its signal is aborted when leadership ends.
 * @throws what `lead` throws, unless its signal was aborted.
 */
export async function runAsLeader(
  options: LeaderElectionOptions,
  lead: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const { signal, log } = options;
  const candidate = new Candidate(options);
  try {
    while (!signal.aborted) {
      await candidate.acquire();
      log.info("leading", { name: options.name, identity: options.identity });
      try {
        if (await leadWhileHeld(candidate, lead, signal)) return;
      } finally {
        log.info("not leading any more", { name: options.name });
        await candidate.release();
      }
    }
  } catch (error) {
    if (!isAbort(error, signal)) throw error;
  }
}

/** @returns whether `lead` ended by itself. */
async function leadWhileHeld(
  candidate: Candidate,
  lead: (signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<boolean> {
  const lost = new Error("The lease was lost");
  // Its scope ends when both have settled: nobody leads after this.
  await using group = new TaskGroup(signal);
  const leading = group.run(lead);
  const holding = group.run(async (scope) => {
    await candidate.hold(scope);
    throw lost;
  });
  for (const task of [leading, holding]) task.catch(() => {}); // Perhaps it fails after the race.
  try {
    await Promise.race([leading, holding]);
    signal.throwIfAborted();
    return !group.signal.aborted; // Else `lead` ended because it was told to.
  } catch (error) {
    if (error === lost) return false;
    throw error;
  }
}

/** Long after `lead` was told to stop, a server that does not answer must not keep the process. */
const releaseTimeoutMs = 3_000;

class Candidate {
  readonly #options: Required<LeaderElectionOptions>;
  #lease: Lease | undefined;
  /** How long the lease has been seen unchanged. */
  #unchangedMs = 0;
  #seenAtMs = 0;
  /** When the last successful renewal was sent. */
  #renewedAtMs = 0;

  constructor(options: LeaderElectionOptions) {
    this.#options = {
      leaseDurationMs: 15_000,
      renewDeadlineMs: 10_000,
      retryPeriodMs: 2_000,
      ...options,
    };
  }

  /** Waits until the lease is ours. */
  async acquire(): Promise<void> {
    const { signal, log, clock, retryPeriodMs, renewDeadlineMs } = this.#options;
    for (let failures = 0; ;) {
      try {
        if (await this.#within(renewDeadlineMs, signal, (scope) => this.#try(scope))) return;
        failures = 0;
      } catch (error) {
        signal.throwIfAborted();
        if (++failures === 2)
          log.warn("cannot read the lease", { name: this.#options.name, error });
      }
      await clock.sleep(retryPeriodMs, { signal });
    }
  }

  /** Renews the lease; returns when it is lost or could not be renewed in time. */
  async hold(signal: AbortSignal): Promise<void> {
    const { clock, log, name, retryPeriodMs, renewDeadlineMs } = this.#options;
    for (;;) {
      await clock.sleep(Math.min(retryPeriodMs, this.#leftMs()), { signal });
      const leftMs = this.#leftMs();
      if (leftMs <= 0) {
        return log.warn("lease not renewed in time", { name, renewDeadlineMs });
      }
      try {
        if (!(await this.#within(leftMs, signal, (scope) => this.#try(scope)))) {
          return log.warn("lease taken by another", {
            name,
            holder: this.#lease?.spec?.holderIdentity,
          });
        }
      } catch (error) {
        signal.throwIfAborted();
        log.warn("cannot renew the lease", { name, error });
      }
    }
  }

  /** Lets the others have it at once. */
  async release(): Promise<void> {
    const { client, identity, log, name, clock } = this.#options;
    const lease = this.#lease;
    if (lease?.spec?.holderIdentity !== identity) return;
    const renewTime = formatMicroTime(clock.now());
    const spec = { ...lease.spec, holderIdentity: "", leaseDurationSeconds: 1, renewTime };
    this.#lease = undefined;
    try {
      const never = AbortSignal.any([]); // Being told to stop is why we are here.
      await this.#within(releaseTimeoutMs, never, (signal) =>
        client.replace(leases, { ...lease, spec }, { signal }),
      );
    } catch (error) {
      log.debug("lease not released", { name, error }); // It runs out by itself.
    }
  }

  #leftMs(): number {
    const { clock, renewDeadlineMs } = this.#options;
    return this.#renewedAtMs + renewDeadlineMs - clock.now().getTime();
  }

  /** Takes or renews the lease if we may. @returns whether it is ours. */
  async #try(signal: AbortSignal): Promise<boolean> {
    const { client, clock, namespace, name, identity } = this.#options;
    const sentAtMs = clock.now().getTime();
    // Our own last version is good enough to renew: if it is not the newest, that is a conflict.
    const isOurs = this.#lease?.spec?.holderIdentity === identity;
    if (!isOurs) this.#see(await client.get(leases, { namespace, name }, { signal }));
    if (!isOurs && !this.#isFree()) return false;
    try {
      this.#lease = this.#lease
        ? await client.replace(leases, { ...this.#lease, spec: this.#claim() }, { signal })
        : await client.create(
            leases,
            { metadata: { name, namespace }, spec: this.#claim() },
            { signal },
          );
      this.#renewedAtMs = sentAtMs;
      return true;
    } catch (error) {
      // Perhaps an answer of ours was lost on its way, or the lease was deleted: look who holds it.
      if (!(error instanceof ApiError && [404, 409].includes(error.status))) throw error;
      this.#see(await client.get(leases, { namespace, name }, { signal }));
      return this.#lease?.spec?.holderIdentity === identity;
    }
  }

  #see(lease: Lease | undefined): void {
    const { clock, renewDeadlineMs } = this.#options;
    const nowMs = clock.now().getTime();
    const isUnchanged =
      lease !== undefined &&
      lease.metadata.uid === this.#lease?.metadata.uid &&
      lease.metadata.resourceVersion === this.#lease?.metadata.resourceVersion;
    // A clock that jumps must not make a lease look old that was renewed while we did not look.
    const sinceMs = Math.min(Math.max(nowMs - this.#seenAtMs, 0), renewDeadlineMs);
    this.#unchangedMs = isUnchanged ? this.#unchangedMs + sinceMs : 0;
    this.#seenAtMs = nowMs;
    this.#lease = lease;
  }

  #isFree(): boolean {
    const { holderIdentity, leaseDurationSeconds } = this.#lease?.spec ?? {};
    if (!holderIdentity || holderIdentity === this.#options.identity) return true;
    const durationMs =
      leaseDurationSeconds === undefined
        ? this.#options.leaseDurationMs
        : leaseDurationSeconds * 1_000;
    return this.#unchangedMs >= durationMs;
  }

  #claim(): NonNullable<Lease["spec"]> {
    const { clock, identity, leaseDurationMs } = this.#options;
    const now = formatMicroTime(clock.now());
    const { holderIdentity, acquireTime = now, leaseTransitions = 0 } = this.#lease?.spec ?? {};
    const isOurs = holderIdentity === identity;
    return {
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(leaseDurationMs / 1_000),
      acquireTime: isOurs ? acquireTime : now,
      renewTime: now,
      leaseTransitions: isOurs || !this.#lease ? leaseTransitions : leaseTransitions + 1,
    };
  }

  /** Runs a task that is aborted after `ms` on the injected clock. */
  async #within<T>(
    ms: number,
    signal: AbortSignal,
    task: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    await using group = new TaskGroup(signal);
    const tooLong = group.run(async (scope) => {
      await this.#options.clock.sleep(ms, { signal: scope });
      throw new Error(`no answer within ${ms} ms`);
    });
    tooLong.catch(() => {}); // The task rejects with the same error.
    return await group.run(task);
  }
}
