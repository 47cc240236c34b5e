import type { RegistryBudget } from "#api/v1/registry-budget.ts";
import { registryBudgets } from "#api/v1/resources.ts";
import type { Clock } from "#async/clock.ts";
import { TokenBucket } from "#async/token-bucket.ts";
import type { KubeClient } from "#kube/client.ts";
import { ApiError } from "#kube/errors.ts";
import type { Informer } from "#kube/informer.ts";
import { keyOf } from "#kube/key.ts";
import { settled, type Result } from "#kube/reconcile.ts";
import { WorkQueue } from "#kube/work-queue.ts";
import type {
  BudgetAccount,
  BudgetExchange,
  BudgetLink,
  ExchangedBudget,
} from "#remote/budget-exchange.ts";
import type { Log } from "#telemetry/log.ts";
import type { Registry } from "#telemetry/metrics.ts";
import { endOf, newsOf, specOf, toldBy } from "./budget-plan.ts";

type Scope = { signal: AbortSignal };

/** How long others wait, after one worker has written, before they write what is not urgent. */
const quietMs = 2_000;

/** After a conflict the feed tells what to do; this is for when it does not. */
const conflictMs = 2_000;

/** How long a budget that holds no more is kept: it may soon be written again. Workers spread over as much. */
const graceMs = 60_000;

/** What a process writes and deletes, however many registries refuse it: 20 at once, and two in a second. */
const writes = { capacity: 20, refillMs: 500 };

/** All workers together write no new ones beyond this. */
const maxShared = 1_000;

export interface SharedBudgetsOptions {
  readonly client: Pick<KubeClient, "create" | "replace" | "delete">;
  /** Of the RegistryBudgets of `namespace`; somebody else runs it. */
  readonly budgetInformer: Pick<Informer<RegistryBudget>, "get" | "list" | "onChange">;
  /** Who has part in what registries grant. It may leave out this worker. */
  readonly membership: { readonly members: ReadonlySet<string> };
  /** Of this worker among the members. */
  readonly identity: string;
  /** Coral's own. */
  readonly namespace: string;
  /** Names the object of an account: see `budgetNames`. */
  readonly nameOf: (account: BudgetAccount) => Promise<string>;
  readonly clock: Clock;
  readonly log: Log;
  readonly random?: () => number;
  readonly metrics?: Registry;
  /** How many objects there may be of which this worker was the last to write: 100 if not given. */
  readonly maxObjects?: number;
}

/** An account's budget in this process. */
interface Link {
  readonly budget: ExchangedBudget;
  /** Of its object. Making it takes time, so it waits until somebody has something to tell. */
  name: string | undefined;
  isBeingNamed: boolean;
  /** What is not urgent waits until then. */
  quietUntilMs: number;
  /** What is urgent waits until then. */
  muteUntilMs: number;
}

/**
 * Shares what registries tell workers of their limits, through one RegistryBudget for each login at a host.
 *
 * What makes others wait is written at once, and how many requests are left every other second while they
 * are few; nothing is for a registry that does not limit. What is left is divided among the workers. Objects
 * that hold no more are deleted by whichever worker comes first.
 *
 * ```ts
 * const shared = new SharedBudgets({ budgetInformer, membership, nameOf: budgetNames(cluster), … });
 * const budgets = new Budgets({ clock, exchange: shared });
 * group.run((signal) => shared.run(signal));
 * ```
 */
export class SharedBudgets implements BudgetExchange {
  readonly #options: Required<Omit<SharedBudgetsOptions, "metrics">>;
  readonly #queue: WorkQueue;
  readonly #writes: TokenBucket;
  readonly #links = new Map<string, Set<Link>>();
  readonly #named = new Map<string, Link>();
  /** Versions of the objects that this worker was the last to write, the last one last. */
  readonly #own = new Map<string, string>();

  constructor(options: SharedBudgetsOptions) {
    const { clock, random = Math.random, metrics, maxObjects = 100 } = options;
    this.#options = { ...options, random, maxObjects };
    this.#writes = new TokenBucket({ ...writes, clock });
    this.#queue = new WorkQueue({
      name: "registry-budget",
      clock,
      random,
      backoff: { minMs: 1_000, maxMs: 60_000 },
      ...(metrics && { metrics }),
    });
  }

  /**
   * Divides what is left. Each worker takes half of its part at a time, as the others may have taken half of
   * theirs since it was told; and of what cannot be divided nobody takes anything.
   */
  shareOf(left: number): number {
    const workers = this.#workers;
    const part = Math.floor(left / workers);
    return workers === 1 || part <= 1 ? part : Math.floor(part / 2);
  }

  join(budget: ExchangedBudget): BudgetLink {
    const { host } = budget;
    const link: Link = {
      budget,
      name: undefined,
      isBeingNamed: false,
      quietUntilMs: -Infinity,
      muteUntilMs: -Infinity,
    };
    const links = this.#links.get(host) ?? new Set();
    this.#links.set(host, links.add(link));
    if (this.#options.budgetInformer.list().some(({ spec }) => spec.host === host))
      this.#look(link);
    return {
      changed: () => {
        const { clock } = this.#options;
        const now = { nowMs: clock.now().getTime(), workers: this.#workers };
        if (newsOf(budget.known(), undefined, now) !== "none") this.#look(link);
      },
      [Symbol.dispose]: () => {
        links.delete(link);
        if (links.size === 0) this.#links.delete(host);
        if (link.name !== undefined) this.#named.delete(link.name);
      },
    };
  }

  /** Tells and hears until aborted. Call it once. */
  async run(signal: AbortSignal): Promise<void> {
    const { budgetInformer, log } = this.#options;
    using _ = budgetInformer.onChange(({ type, object }) => {
      if (type === "deleted") this.#own.delete(object.metadata.name);
      else this.#hear(object);
    });
    await this.#queue.run((name, scope) => this.#reconcile(name, scope), {
      workers: 2,
      log,
      signal,
    });
  }

  get #workers(): number {
    const { membership, identity } = this.#options;
    return membership.members.size + (membership.members.has(identity) ? 0 : 1);
  }

  #hear({ metadata: { name }, spec: { host } }: RegistryBudget): void {
    for (const link of this.#links.get(host) ?? []) if (link.name === undefined) this.#look(link);
    const link = this.#named.get(name);
    if (link) link.quietUntilMs = this.#pause();
    this.#queue.add(name);
  }

  /** Sees to it that an account and its object agree. */
  #look(link: Link): void {
    if (link.name !== undefined) this.#queue.add(link.name);
    else if (!link.isBeingNamed) void this.#name(link);
  }

  async #name(link: Link): Promise<void> {
    const { nameOf, log } = this.#options;
    const { host } = link.budget;
    link.isBeingNamed = true;
    try {
      const name = await nameOf(link.budget);
      if (!this.#links.get(host)?.has(link)) return;
      link.name = name;
      this.#named.set(name, link);
      this.#queue.add(name);
    } catch (error) {
      log.error("cannot name a budget", { registry: host, error });
    } finally {
      link.isBeingNamed = false;
    }
  }

  async #reconcile(name: string, { signal }: Scope): Promise<Result> {
    const { budgetInformer, clock, namespace, random } = this.#options;
    const nowMs = clock.now().getTime();
    const object = budgetInformer.get({ namespace, name });
    const link = this.#named.get(name);
    const told = object && toldBy(object.spec, nowMs);
    if (link && told) link.budget.learn(told);
    const known = link?.budget.known();
    const news = known && newsOf(known, object?.spec, { nowMs, workers: this.#workers });
    if (link && news !== undefined && news !== "none") {
      const dueMs = news === "urgent" ? link.muteUntilMs : link.quietUntilMs;
      if (dueMs > nowMs) return { requeueAfterMs: dueMs - nowMs };
      const isUrgent = news === "urgent";
      return unlessOutdated(() => this.#write(name, link, object, { isUrgent, signal }));
    }
    if (!object) return settled;
    const goneMs = Math.max(endOf(object.spec, nowMs), 0) + graceMs * (1 + random());
    if (goneMs > nowMs) return { requeueAfterMs: goneMs - nowMs };
    return unlessOutdated(() => this.#delete(object, { signal }));
  }

  async #write(
    name: string,
    link: Link,
    object: RegistryBudget | undefined,
    { isUrgent, signal }: Scope & { isUrgent: boolean },
  ): Promise<Result> {
    const { budgetInformer, client, clock, log, namespace } = this.#options;
    if (!object && budgetInformer.list().length >= maxShared) {
      log.debug("too many budgets to share another", { registry: link.budget.host });
      return settled;
    }
    if (!this.#writes.tryTake()) return { requeueAfterMs: writes.refillMs };
    if (!this.#own.has(name)) await this.#makeRoom({ signal });
    const spec = specOf(link.budget.host, link.budget.known(), clock.now().getTime());
    link.quietUntilMs = this.#pause();
    if (isUrgent) link.muteUntilMs = clock.now().getTime() + quietMs;
    const { metadata } = object
      ? await client.replace(registryBudgets, { ...object, spec }, { signal })
      : await client.create(registryBudgets, { metadata: { namespace, name }, spec }, { signal });
    this.#own.delete(name);
    this.#own.set(name, metadata.resourceVersion ?? "");
    return settled;
  }

  /** Deletes what this worker has not written for the longest time, unless another one has since. */
  async #makeRoom({ signal }: Scope): Promise<void> {
    const { client, maxObjects, namespace } = this.#options;
    const [oldest] = this.#own;
    if (!oldest || this.#own.size < maxObjects) return;
    const [name, resourceVersion] = oldest;
    const preconditions = { resourceVersion };
    this.#own.delete(name);
    await unlessOutdated(async () => {
      await client.delete(registryBudgets, { namespace, name }, { preconditions, signal });
      return settled;
    });
  }

  async #delete(object: RegistryBudget, { signal }: Scope): Promise<Result> {
    if (!this.#writes.tryTake()) return { requeueAfterMs: writes.refillMs };
    const { uid = "", resourceVersion = "" } = object.metadata;
    const preconditions = { uid, resourceVersion };
    await this.#options.client.delete(registryBudgets, keyOf(object), { preconditions, signal });
    return settled;
  }

  /** Until when what is not urgent may wait: workers that heard the same go on at different times. */
  #pause(): number {
    const { clock, random } = this.#options;
    return clock.now().getTime() + quietMs * (1 + random() / 2);
  }
}

/** Acts on what the feed told, which may be behind: then it is looked at again. */
async function unlessOutdated(act: () => Promise<Result>): Promise<Result> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof ApiError && [404, 409].includes(error.status))) throw error;
    return { requeueAfterMs: conflictMs };
  }
}
