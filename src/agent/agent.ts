import { isDeepStrictEqual } from "node:util";

import type { ImagePlan } from "#api/v1/image-plan.ts";
import type { NodeReportStatus, ReportedImage } from "#api/v1/node-report.ts";
import { isAbort } from "#async/abort.ts";
import type { Clock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import type { Informer } from "#kube/informer.ts";
import type { KubeObject, Node } from "#kube/types.ts";
import type { Log } from "#telemetry/log.ts";
import { concernsImage, failureOf, ImageNotListedError } from "./failure.ts";
import type { PullRequest } from "./fair-share.ts";
import { Inventory, nameInRuntime } from "./inventory.ts";
import { mayPull } from "./may-pull.ts";
import type { AgentMetrics } from "./metrics.ts";
import { owedBy, type Owed, type OwedImage } from "./owed.ts";
import { PullQueue } from "./pull-queue.ts";
import type { ReportStore } from "./report-store.ts";
import { ReportWriter, type DesiredReport } from "./report-writer.ts";
import { reportStatus } from "./report.ts";
import { RuntimeWatch } from "./runtime-watch.ts";
import type { Runtime } from "./runtime.ts";
import {
  failed,
  found,
  missing,
  newlyOwed,
  postponed,
  renewed,
  restored,
  type RetryPolicy,
  type TrackedImage,
} from "./tracked-image.ts";
import { Wake } from "./wake.ts";

/** The longest that the last report may hold up the end of the process. */
const flushTimeoutMs = 2_000;

/** What an earlier process reported, by reference. */
type Earlier = ReadonlyMap<string, { reported: ReportedImage; isSamePlan: boolean }>;

/** What an informer offers the agent. Somebody else runs it: several agents may share one. */
export type Feed<T extends KubeObject> = Pick<Informer<T>, "get" | "list" | "onChange" | "synced">;

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

export interface AgentDeps {
  runtime: Runtime;
  plans: Feed<ImagePlan>;
  /** Has the agent's own Node, and perhaps others. */
  nodes: Feed<Node>;
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
  readonly #queue: PullQueue;
  readonly #writer: ReportWriter;
  readonly #wake: Wake;

  readonly #tracked = new Map<string, TrackedImage>();
  #owed: Owed = { images: new Map(), observedPlan: "", problems: [] };
  #labels: Readonly<Record<string, string>> = {};
  #arePlansNew = true;
  #problems: ReadonlySet<string> = new Set();

  /** What an earlier process reported, until this one has worked out for itself what it owes. */
  #earlier: NodeReportStatus | undefined;
  #waitingFor: string | undefined = "the caches and the container runtime";

  constructor(settings: AgentSettings, deps: AgentDeps) {
    const { runtime, reports: store, clock, random, log, metrics } = deps;
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
    this.#queue = new PullQueue({
      concurrency: settings.pullConcurrency,
      clock,
      metrics,
      pull: (reference, options) => this.#pull(reference, options),
    });
    this.#writer = new ReportWriter({
      ...common,
      store,
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
    this.#earlier = earlier;
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
      await this.#wake.wait({ signal });
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
    this.#owe(node);
    const now = this.#deps.clock.now();
    for (const image of this.#tracked.values()) {
      const held = this.#inventory.find(image.reference);
      this.#track(held ? found(image, held, now) : missing(image, now, this.#policy));
    }
    this.#queue.replace(this.#pullRequests(), {
      isHeld: !mayPull(node).isAllowed || !this.#runtimeWatch.isConnected,
      isOwed: (reference) => this.#owed.images.has(reference),
    });
    this.#writer.request({ isUrgent: !this.#writer.isWritten });
  }

  #ownNode(): Node | undefined {
    return this.#deps.nodes.get(this.#settings.nodeName);
  }

  /** Works out what the node owes, if a plan or a label has changed. */
  #owe({ metadata: { labels = {} } }: Node): void {
    if (!this.#arePlansNew && isDeepStrictEqual(labels, this.#labels)) return;
    this.#arePlansNew = false;
    this.#labels = labels;
    const before = this.#owed;
    this.#owed = owedBy(this.#deps.plans.list(), labels);
    this.#tellProblems(this.#owed.problems);

    for (const reference of this.#tracked.keys()) {
      if (!this.#owed.images.has(reference)) this.#tracked.delete(reference);
    }
    const earlier = this.#takeEarlier();
    const now = this.#deps.clock.now();
    for (const { reference, version } of this.#owed.images.values()) {
      const image = this.#tracked.get(reference);
      if (!image) this.#tracked.set(reference, this.#begin(reference, earlier, now));
      else if (before.images.get(reference)?.version !== version) {
        this.#tracked.set(reference, renewed(image, now));
      }
    }
  }

  #takeEarlier(): Earlier {
    const { images = [], observedPlan } = this.#earlier ?? {};
    this.#earlier = undefined;
    const isSamePlan = observedPlan === this.#owed.observedPlan;
    return new Map(images.map((reported) => [reported.reference, { reported, isSamePlan }]));
  }

  #begin(reference: string, earlier: Earlier, now: Date): TrackedImage {
    const known = earlier.get(reference);
    if (!known) return newlyOwed(reference, now);
    const { reported, isSamePlan } = known;
    return restored(reported, { isSamePlan, now, policy: this.#policy });
  }

  /** Logs each problem once, as long as it lasts. */
  #tellProblems(problems: readonly string[]): void {
    for (const problem of problems) {
      if (!this.#problems.has(problem)) this.#deps.log.warn("part of a plan ignored", { problem });
    }
    this.#problems = new Set(problems);
  }

  /** Remembers how an image is doing now. That it is there, or has failed for good, is urgent news. */
  #track(image: TrackedImage): void {
    const before = this.#tracked.get(image.reference);
    if (image === before) return;
    this.#tracked.set(image.reference, image);
    const isUrgent = image.state !== before?.state && image.state !== "pending";
    this.#writer.request({ isUrgent });
    if (image.finding?.reason === "Removed" && before?.state === "available") {
      this.#deps.log.info("image was removed from the node", { image: image.reference });
    }
  }

  #pullRequests(): PullRequest[] {
    const requests: PullRequest[] = [];
    for (const { reference, state, attempts, dueMs } of this.#tracked.values()) {
      const owed = this.#owed.images.get(reference);
      if (state === "available" || !owed) continue;
      const { namespaces, priority } = owed;
      requests.push({ reference, namespaces, priority, isRetry: attempts > 0, dueMs });
    }
    return requests;
  }

  /** Pulls one image for the queue, and draws the conclusions before it returns. */
  async #pull(reference: string, { signal }: { signal: AbortSignal }): Promise<void> {
    const { runtime, clock, log, metrics } = this.#deps;
    const { pullTimeoutMs: timeoutMs } = this.#settings;
    const asked = this.#owed.images.get(reference);
    const startedMs = clock.now().getTime();
    const seconds = (): number => (clock.now().getTime() - startedMs) / 1_000;
    try {
      await runtime.pull(reference, { timeoutMs, signal });
      const image = await runtime.imageStatus(nameInRuntime(reference), { signal });
      signal.throwIfAborted(); // No longer owed, however it ended.
      if (image) this.#inventory.learn(image);
      if (!this.#inventory.find(reference)) throw new ImageNotListedError(reference);
      metrics.pullSeconds.observe({ result: "ok" }, seconds());
      log.info("image pulled", { image: reference, durationSeconds: seconds() });
    } catch (error) {
      if (signal.aborted) {
        metrics.pullSeconds.observe({ result: "cancelled" }, seconds());
        return;
      }
      metrics.pullSeconds.observe({ result: "error" }, seconds());
      this.#fail(reference, error, asked);
    }
    // Now and not when the loop comes round: the queue must not take up what has just ended.
    this.#reconcile();
  }

  #fail(reference: string, error: unknown, asked: OwedImage | undefined): void {
    const { clock, log, metrics } = this.#deps;
    const image = this.#tracked.get(reference);
    if (!image) return;
    const failure = failureOf(error);
    const { reason } = failure;
    metrics.pullFailures.inc({ reason });
    const attempt = image.attempts + 1;
    log.warn("image not pulled", { image: reference, attempt, reason, error });
    // What was asked for changed meanwhile: this outcome belongs to what was asked before.
    if (this.#owed.images.get(reference)?.version !== asked?.version) return;
    this.#track(
      concernsImage(failure)
        ? failed(image, failure, clock.now(), this.#policy)
        : postponed(image, clock.now(), this.#policy),
    );
  }

  #desiredReport(): DesiredReport | undefined {
    const node = this.#ownNode();
    const runtime = this.#runtimeWatch.version;
    if (node?.metadata.uid === undefined || !runtime || this.#waitingFor !== undefined) {
      return undefined;
    }
    const status = reportStatus({
      images: this.#tracked.values(),
      permission: mayPull(node),
      errorThreshold: this.#settings.errorThreshold,
      runtime,
      agentVersion: this.#settings.agentVersion,
      observedPlan: this.#owed.observedPlan,
    });
    return { nodeUid: node.metadata.uid, status };
  }
}
