import type { ImagePlan } from "#api/v1/image-plan.ts";
import { isAbort } from "#async/abort.ts";
import { fullJitter } from "#async/backoff.ts";
import type { Clock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import type { KubeObject, Node } from "#kube/types.ts";
import type { Log } from "#telemetry/log.ts";
import { concernsImage, failureOf, ImageNotListedError } from "./failure.ts";
import type { Feed } from "./feed.ts";
import { Inventory, nameInRuntime, type HeldImage } from "./inventory.ts";
import { Ledger } from "./ledger.ts";
import { mayPull } from "./may-pull.ts";
import type { AgentMetrics } from "./metrics.ts";
import type { OwedImage } from "./owed.ts";
import { PullQueue } from "./pull-queue.ts";
import { Puller, type PullerDeps } from "./puller.ts";
import type { ReportStore } from "./report-store.ts";
import { ReportWriter, type DesiredReport } from "./report-writer.ts";
import { reportStatus } from "./report.ts";
import { RuntimeWatch } from "./runtime-watch.ts";
import type { Runtime } from "./runtime.ts";
import { failed, found, postponed, type RetryPolicy, type TrackedImage } from "./tracked-image.ts";
import { Wake } from "./wake.ts";

/** The longest that the last report may hold up the end of the process. */
const flushTimeoutMs = 2_000;

export interface AgentSettings {
  readonly nodeName: string;
  readonly agentVersion: string;
  /** Pulls at the same time. */
  readonly pullConcurrency: number;
  /** Longest wait for one image, layers included. */
  readonly pullTimeoutMs: number;
  /** Failed pulls in a row that make an error. */
  readonly errorThreshold: number;
  /** Bounds of the wait between failed pulls of one image. */
  readonly backoffMinMs: number;
  readonly backoffMaxMs: number;
}

export interface AgentDeps extends Pick<PullerDeps, "logins" | "slots" | "stalls" | "disk"> {
  runtime: Runtime;
  plans: Feed<ImagePlan>;
  /** Has the agent's own Node, and perhaps others. */
  nodes: Feed<Node>;
  /** Has the metadata of the agent's own NodeReport, and perhaps of others. */
  ownReport: Feed<KubeObject>;
  reports: ReportStore;
  clock: Clock;
  random: () => number;
  log: Log;
  metrics: AgentMetrics;
}

/**
 * Pulls what a node owes, and reports it.
 *
 * Level-based: whatever happens (a plan, the Node, the runtime, a pull) only makes it look at
 * everything again, so that merged, repeated and reordered events are all the same to it. The
 * decisions are elsewhere and pure; this is the shell that feeds them.
 */
export class Agent {
  readonly #settings: AgentSettings;
  readonly #deps: AgentDeps;
  readonly #policy: RetryPolicy;
  readonly #inventory = new Inventory();
  readonly #runtimeWatch: RuntimeWatch;
  readonly #ledger: Ledger;
  readonly #puller: Puller;
  readonly #queue: PullQueue;
  readonly #writer: ReportWriter;
  readonly #wake: Wake;
  #arePlansNew = true;
  #waitingFor: string | undefined = "the caches and the container runtime";

  constructor(settings: AgentSettings, deps: AgentDeps) {
    const { runtime, clock, random, log, metrics } = deps;
    this.#settings = settings;
    this.#deps = deps;
    this.#policy = {
      errorThreshold: settings.errorThreshold,
      minMs: settings.backoffMinMs,
      maxMs: settings.backoffMaxMs,
      random,
    };
    this.#wake = new Wake(clock);
    const common = { clock, random, log };
    this.#runtimeWatch = new RuntimeWatch({
      ...common,
      runtime,
      metrics,
      inventory: this.#inventory,
      onChange: () => this.#wake.notify(),
    });
    this.#ledger = new Ledger({
      policy: this.#policy,
      log,
      onChange: (change) => this.#writer.request(change),
    });
    this.#puller = new Puller({
      ...deps,
      timeoutMs: settings.pullTimeoutMs,
      patience: settings.errorThreshold,
    });
    this.#queue = new PullQueue({
      concurrency: settings.pullConcurrency,
      clock,
      metrics,
      pull: (reference, options) => this.#pull(reference, options),
    });
    this.#writer = new ReportWriter({
      ...common,
      nodeName: settings.nodeName,
      store: deps.reports,
      feed: deps.ownReport,
      writes: metrics.reportWrites,
      desired: () => this.#desiredReport(),
    });
  }

  /** Says what is missing for the agent to be of use, or `undefined` if nothing is. */
  problem(): string | undefined {
    if (this.#waitingFor !== undefined) return `waiting for ${this.#waitingFor}`;
    if (!this.#runtimeWatch.isConnected) return "the container runtime is lost";
    return this.#writer.isWritten ? undefined : "the NodeReport is not written yet";
  }

  /** Works until aborted; then aborts the pulls, writes what is not written yet, and returns. */
  async run(signal: AbortSignal): Promise<void> {
    const { plans, nodes } = this.#deps;
    const { nodeName } = this.#settings;
    using _plans = plans.onChange(() => {
      this.#arePlansNew = true;
      this.#wake.notify();
    });
    using _node = nodes.onChange(({ key }) => {
      if (key === nodeName) this.#wake.notify();
    });
    try {
      await using group = new TaskGroup(signal);
      await Promise.all([
        group.run((signal) => this.#runtimeWatch.run(signal)),
        group.run((signal) => this.#work(signal)),
      ]);
    } catch (error) {
      if (!isAbort(error, signal)) throw error;
    }
    await this.#writer.flush({ signal: AbortSignal.timeout(flushTimeoutMs) });
  }

  async #work(signal: AbortSignal): Promise<void> {
    const { plans, nodes } = this.#deps;
    const [earlier] = await Promise.all([
      this.#writer.restore({ signal }),
      plans.synced({ signal }),
      nodes.synced({ signal }),
    ]);
    while (this.#runtimeWatch.version === undefined) await this.#wake.wait({ signal });
    this.#ledger.restore(earlier);
    this.#waitingFor = undefined;
    await using group = new TaskGroup(signal);
    await Promise.all([
      group.run((signal) => this.#queue.run(signal)),
      group.run((signal) => this.#writer.run(signal)),
      group.run((signal) => this.#reconcileAgainAndAgain(signal)),
    ]);
  }

  async #reconcileAgainAndAgain(signal: AbortSignal): Promise<void> {
    for (;;) {
      this.#reconcile();
      const timeoutMs = this.#ownNode() && this.#ledger.untilCalmMs(this.#deps.clock.now());
      await this.#wake.wait({ signal, timeoutMs });
    }
  }

  /** Looks at everything and tells the queue and the writer what follows. */
  #reconcile(): void {
    const node = this.#ownNode();
    // Deleted: nobody wants anything of it, and nothing could own a report.
    if (!node) {
      this.#queue.replace([], { isHeld: true, isOwed: () => true });
      return;
    }
    const now = this.#deps.clock.now();
    const arePlansNew = this.#arePlansNew;
    this.#arePlansNew = false;
    this.#ledger.owe(this.#deps.plans, node.metadata.labels ?? {}, { arePlansNew, now });
    this.#ledger.compare(this.#inventory, now);
    this.#queue.replace(this.#ledger.requests(), {
      isHeld: !mayPull(node).isAllowed || !this.#runtimeWatch.isConnected,
      isOwed: (reference) => this.#ledger.owed(reference) !== undefined,
    });
    this.#writer.request({ isUrgent: !this.#writer.isWritten });
  }

  #ownNode(): Node | undefined {
    return this.#deps.nodes.get(this.#settings.nodeName);
  }

  /** Pulls one image for the queue, and draws the conclusions before it returns. */
  async #pull(reference: string, { signal }: { signal: AbortSignal }): Promise<void> {
    const { clock, log, metrics } = this.#deps;
    const asked = this.#ledger.owed(reference);
    const image = this.#ledger.get(reference);
    if (!asked || !image) return;
    const startedMs = clock.now().getTime();
    const seconds = (): number => (clock.now().getTime() - startedMs) / 1_000;
    try {
      const { attempts, postponements } = image;
      const node = this.#ownNode();
      const heldBytes = this.#inventory.find(reference)?.sizeBytes ?? 0;
      const state = { node, heldBytes, attempts, postponements };
      const outcome = await this.#puller.pull(asked, { ...state, signal });
      if (outcome.isDone) {
        this.#finish(asked, await this.#pulled(reference, signal));
        metrics.pullSeconds.observe({ result: "ok" }, seconds());
        log.info("image pulled", { image: reference, durationSeconds: seconds() });
      } else {
        const { why, retryAfterMs } = outcome;
        metrics.pullsPostponed.inc({ reason: why.reason });
        log.debug("image not pulled yet", { image: reference, ...why });
        this.#conclude(asked, (image, nowMs) =>
          postponed(image, { dueMs: nowMs + retryAfterMs, why }),
        );
      }
    } catch (error) {
      if (signal.aborted) {
        metrics.pullSeconds.observe({ result: "cancelled" }, seconds());
        return;
      }
      metrics.pullSeconds.observe({ result: "error" }, seconds());
      this.#fail(asked, error);
    }
    // Now and not when the loop comes round: the queue must not take up what has just ended.
    this.#reconcile();
  }

  /** Finds in the runtime what a pull has brought. */
  async #pulled(reference: string, signal: AbortSignal): Promise<HeldImage> {
    const image = await this.#deps.runtime.imageStatus(nameInRuntime(reference), { signal });
    signal.throwIfAborted(); // No longer owed, however it ended.
    if (image) this.#inventory.learn(image);
    const held = this.#inventory.find(reference);
    if (!held) throw new ImageNotListedError(reference);
    return held;
  }

  #finish({ reference }: OwedImage, held: HeldImage): void {
    this.#deps.metrics.pulledBytes.inc({}, held.sizeBytes);
    const image = this.#ledger.get(reference);
    const expected = this.#ledger.owed(reference); // As it is by now.
    if (!image || !expected) return;
    const now = this.#deps.clock.now();
    this.#ledger.set(found(image, held, { expected, now, policy: this.#policy, wasPulled: true }));
  }

  #fail(asked: OwedImage, error: unknown): void {
    const { clock, log, metrics } = this.#deps;
    const { reference } = asked;
    const failure = failureOf(error);
    const { reason } = failure;
    metrics.pullFailures.inc({ reason });
    const attempt = (this.#ledger.get(reference)?.attempts ?? 0) + 1;
    log.warn("image not pulled", { image: reference, attempt, reason, error });
    this.#conclude(asked, (image, nowMs) => {
      if (concernsImage(failure)) return failed(image, failure, clock.now(), this.#policy);
      return postponed(image, { dueMs: nowMs + fullJitter(1, this.#policy) });
    });
  }

  /** Notes how a pull ended, unless what was asked for has changed meanwhile: that was another pull. */
  #conclude(asked: OwedImage, next: (image: TrackedImage, nowMs: number) => TrackedImage): void {
    const image = this.#ledger.get(asked.reference);
    if (!image || this.#ledger.owed(asked.reference)?.version !== asked.version) return;
    this.#ledger.set(next(image, this.#deps.clock.now().getTime()));
  }

  #desiredReport(): DesiredReport | undefined {
    const node = this.#ownNode();
    const runtime = this.#runtimeWatch.version;
    if (node?.metadata.uid === undefined || !runtime || this.#waitingFor !== undefined) {
      return undefined;
    }
    const status = reportStatus({
      images: this.#ledger.images(),
      permission: mayPull(node),
      errorThreshold: this.#settings.errorThreshold,
      runtime,
      agentVersion: this.#settings.agentVersion,
      observedPlan: this.#ledger.observedPlan,
    });
    return { nodeUid: node.metadata.uid, status };
  }
}
