import { isAbort } from "#async/abort.ts";
import type { Clock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import type { KubeClient } from "#kube/client.ts";
import { ApiError } from "#kube/errors.ts";
import { Informer } from "#kube/informer.ts";
import { keyOf } from "#kube/key.ts";
import { formatMicroTime } from "#kube/micro-time.ts";
import type { Change } from "#kube/object-cache.ts";
import { leases } from "#kube/resource.ts";
import type { Lease, OwnerReference } from "#kube/types.ts";
import type { Log } from "#telemetry/log.ts";
import { LiveLeases } from "./live-leases.ts";
import { ownerOf } from "./rendezvous.ts";

type Scope = { signal: AbortSignal };

/** What tells the Leases of workers from others of the namespace. */
const labels = { "app.kubernetes.io/name": "coral", "app.kubernetes.io/component": "mirror" };
const labelSelector = "app.kubernetes.io/component=mirror";

/** Of every Lease that a worker may write. */
const prefix = "coral-mirror-";

/** A Lease that runs out by itself is not worth a process that does not end. */
const leaveTimeoutMs = 3_000;

/** How many Leases of dead workers are removed between two renewals. */
const maxRemovals = 4;

export interface MembershipOptions {
  readonly client: Pick<
    KubeClient,
    "get" | "create" | "replace" | "delete" | "listRaw" | "watch" | "watchError"
  >;
  readonly clock: Clock;
  readonly random?: () => number;
  readonly log: Log;
  /** Coral's own. */
  readonly namespace: string;
  /** Unique among workers: the name of its pod. */
  readonly identity: string;
  /** With whom the Lease goes if this worker cannot remove it. */
  readonly owner?: OwnerReference;
  /** How long the others wait for a sign of this worker. */
  readonly leaseDurationMs: number;
}

/**
 * Tells the other workers that this one lives, and knows which of them do.
 *
 * A worker lives while its Lease changes, as seen from here: nobody reads another's clock. This one counts
 * itself only while its own renewals succeed, and stops before the others stop counting it: each renewal is
 * good for two thirds of what it is to them.
 */
export class Membership {
  readonly #options: MembershipOptions;
  readonly #informer: Informer<Lease>;
  readonly #others: LiveLeases;
  /** Of this worker's Lease. */
  readonly #name: string;
  readonly #listeners = new Set<() => void>();
  readonly #renewEveryMs: number;
  readonly #deadlineMs: number;
  #own: Lease | undefined;
  /** When the last renewal that succeeded was sent. */
  #renewedAtMs: number | undefined;
  #members: ReadonlySet<string> = new Set();

  constructor(options: MembershipOptions) {
    const { identity } = options;
    this.#options = options;
    this.#name = identity.startsWith(prefix) ? identity : `${prefix}${identity}`;
    this.#informer = new Informer({ ...options, resource: leases, labelSelector });
    this.#others = new LiveLeases(options.leaseDurationMs);
    this.#renewEveryMs = options.leaseDurationMs / 3;
    this.#deadlineMs = (2 * options.leaseDurationMs) / 3;
  }

  /** The identities of those who live. Another set whenever it changes; empty until the others are known. */
  get members(): ReadonlySet<string> {
    // Whoever reads it may be sooner than the timer.
    if (this.#isHeld === this.#members.has(this.#options.identity)) return this.#members;
    return this.#current();
  }

  /** Whether this worker counts itself. */
  get isMember(): boolean {
    return this.#isHeld;
  }

  isLive(identity: string): boolean {
    return this.members.has(identity);
  }

  /** Calls `listener`, which must not throw, whenever `members` has changed. */
  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  /** Is a member until aborted; then the Lease is removed, so that others take over at once. Call it once. */
  async run(signal: AbortSignal): Promise<void> {
    using _ = this.#informer.onChange((change) => this.#hear(change));
    try {
      await using group = new TaskGroup(signal);
      await Promise.all([
        group.run((scope) => this.#informer.run(scope)),
        group.run((scope) => this.#hold({ signal: scope })),
      ]);
    } catch (error) {
      if (!isAbort(error, signal)) throw error;
    } finally {
      await this.#leave();
    }
  }

  /** Renews the Lease for as long as it can, and looks who else lives. */
  async #hold({ signal }: Scope): Promise<void> {
    const { clock, log } = this.#options;
    await this.#informer.synced({ signal }); // Whoever does not know the others would take all to be its own.
    for (let failures = 0; ;) {
      try {
        await this.#within(this.#untilDeadlineMs(this.#renewEveryMs), signal, async (scope) =>
          this.#renew({ signal: scope }),
        );
        failures = 0;
      } catch (error) {
        signal.throwIfAborted();
        if (++failures === 2) log.warn("cannot renew the lease", { error });
      }
      this.#update();
      if (failures === 0) await this.#removeStale({ signal });
      await clock.sleep(failures > 0 ? this.#retryMs() : this.#untilNextMs(), { signal });
      this.#update();
    }
  }

  /** When another Lease seems to run out, renewing this one shows that the watch is not merely behind. */
  #untilNextMs(): number {
    const earliestMs = Math.max(this.#others.leftMs ?? Infinity, this.#renewEveryMs / 5);
    return Math.min(this.#renewEveryMs, earliestMs);
  }

  #retryMs(): number {
    return this.#untilDeadlineMs(this.#renewEveryMs / 5);
  }

  /** What there is of some time until this worker must stop to count itself. */
  #untilDeadlineMs(ms: number): number {
    return this.#isHeld ? Math.min(ms, this.#leftMs) : ms;
  }

  get #isHeld(): boolean {
    return this.#leftMs > 0;
  }

  get #leftMs(): number {
    if (this.#renewedAtMs === undefined) return 0;
    return this.#renewedAtMs + this.#deadlineMs - this.#options.clock.now().getTime();
  }

  async #renew({ signal }: Scope): Promise<void> {
    const { client, clock, namespace } = this.#options;
    const sentAt = clock.now();
    try {
      this.#own = await this.#write(sentAt, { signal });
    } catch (error) {
      // Somebody removed it, it is of this pod's last life, or an answer was lost on its way.
      if (!(error instanceof ApiError && [404, 409].includes(error.status))) throw error;
      this.#own = await client.get(leases, { namespace, name: this.#name }, { signal });
      this.#own = await this.#write(sentAt, { signal });
    }
    this.#renewedAtMs = sentAt.getTime();
  }

  async #write(now: Date, { signal }: Scope): Promise<Lease> {
    const { client, namespace, identity, owner, leaseDurationMs } = this.#options;
    const renewTime = formatMicroTime(now);
    const { holderIdentity, acquireTime = renewTime } = this.#own?.spec ?? {};
    const spec = {
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(leaseDurationMs / 1_000),
      acquireTime: holderIdentity === identity ? acquireTime : renewTime,
      renewTime,
    };
    const ownerReferences = owner ? [owner] : [];
    const metadata = {
      ...this.#own?.metadata,
      name: this.#name,
      namespace,
      labels,
      ownerReferences,
    };
    const lease = { metadata, spec };
    if (this.#own) return client.replace(leases, lease, { signal });
    return client.create(leases, lease, { signal });
  }

  #hear({ type, object }: Change<Lease>): void {
    const { clock, identity } = this.#options;
    const { name } = object.metadata;
    const nowMs = clock.now().getTime();
    if (name === this.#name) {
      const { holderIdentity, renewTime = "" } = object.spec ?? {};
      if (type === "deleted" || holderIdentity !== identity) return;
      // All that happened before this renewal was sent has been heard of.
      this.#others.tick(Math.min(Date.parse(renewTime) || nowMs, nowMs));
    } else if (type === "deleted") {
      this.#others.forget(name);
    } else {
      this.#others.see(object, nowMs);
    }
    this.#update();
  }

  #update(): void {
    const current = this.#current();
    if (current.symmetricDifference(this.#members).size === 0) return;
    const before = this.#members;
    this.#members = current;
    const [came, went] = [current.difference(before), before.difference(current)];
    this.#options.log.info("workers changed", { came: [...came], went: [...went] });
    for (const listener of this.#listeners) listener();
  }

  #current(): Set<string> {
    if (!this.#informer.hasSynced) return new Set();
    const members = this.#others.holders;
    if (this.#isHeld) members.add(this.#options.identity);
    return members;
  }

  /** One worker removes what a dead one left. */
  async #removeStale({ signal }: Scope): Promise<void> {
    const { client, identity, log } = this.#options;
    const stale = this.#others.stale.filter(
      ({ metadata }) =>
        metadata.name.startsWith(prefix) && ownerOf(metadata.name, this.members) === identity,
    );
    for (const lease of stale.slice(0, maxRemovals)) {
      const { uid, resourceVersion, name } = lease.metadata;
      const preconditions = { ...(uid && { uid }), ...(resourceVersion && { resourceVersion }) };
      try {
        await this.#within(this.#renewEveryMs, signal, async (scope) =>
          client.delete(leases, keyOf(lease), { preconditions, signal: scope }),
        );
        log.debug("lease of a dead worker removed", { name });
      } catch (error) {
        signal.throwIfAborted();
        log.debug("lease of a dead worker not removed", { name, error });
        return;
      }
    }
  }

  async #leave(): Promise<void> {
    const { client, log } = this.#options;
    const lease = this.#own;
    this.#own = undefined;
    this.#renewedAtMs = undefined;
    this.#update();
    if (!lease) return;
    const { uid } = lease.metadata;
    try {
      await client.delete(leases, keyOf(lease), {
        ...(uid && { preconditions: { uid } }),
        signal: AbortSignal.timeout(leaveTimeoutMs), // Being told to stop is why it is removed.
      });
    } catch (error) {
      log.debug("lease not removed", { error }); // It runs out by itself.
    }
  }

  /** Runs a task that is aborted after some time on the injected clock. */
  async #within<T>(
    ms: number,
    signal: AbortSignal,
    task: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    await using group = new TaskGroup(signal);
    const tooLong = group.run(async (scope) => {
      await this.#options.clock.sleep(ms, { signal: scope });
      throw new Error(`no answer within ${Math.round(ms)} ms`);
    });
    tooLong.catch(() => {}); // The task rejects with the same error.
    return await group.run(task);
  }
}
