import { Agent, type AgentDeps, type AgentSettings } from "#agent/agent.ts";
import type { Feed } from "#agent/feed.ts";
import { agentMetrics } from "#agent/metrics.ts";
import type { ReportStore } from "#agent/report-store.ts";
import type { ImagePlan, ImagePlanSpec } from "#api/v1/image-plan.ts";
import type { NodeReport, NodeReportStatus, ReportedImage } from "#api/v1/node-report.ts";
import { ApiUnreachableError } from "#kube/errors.ts";
import { formatKey, keyOf } from "#kube/key.ts";
import type { KubeObject, Node } from "#kube/types.ts";
import { silentLog } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import { MemoryRuntime } from "#test/agent-runtime.ts";
import { ManualClock } from "#test/manual-clock.ts";

/** An ImagePlan of references, or of what else its spec says, made from an Image's `generation`. */
export function aPlan(
  key: string,
  images: readonly string[],
  { generation = 1, ...spec }: Partial<ImagePlanSpec> & { generation?: number } = {},
): ImagePlan {
  const [namespace = "", name = ""] = key.split("/");
  return {
    metadata: { name, namespace },
    spec: {
      selector: [],
      priority: 0,
      imageGeneration: generation,
      images: images.map((reference) => ({ reference })),
      ...spec,
    },
  };
}

/** A Ready Node with conditions as given. */
export function aNode({
  uid = "node-uid",
  labels = {},
  conditions = {},
}: {
  uid?: string;
  labels?: Record<string, string>;
  conditions?: Record<string, "True" | "False" | "Unknown">;
} = {}): Node {
  const all = { Ready: "True", DiskPressure: "False", PIDPressure: "False", ...conditions };
  return {
    metadata: { name: "worker", uid, labels },
    status: {
      conditions: Object.entries(all).map(([type, status]) => ({ type, status })),
      nodeInfo: { operatingSystem: "linux", architecture: "amd64" },
    },
  };
}

/** An informer without a cluster: it has what it is given. */
export class MemoryFeed<T extends KubeObject> implements Feed<T> {
  readonly #objects = new Map<string, T>();
  readonly #listeners = new Set<Parameters<Feed<T>["onChange"]>[0]>();

  constructor(...objects: T[]) {
    for (const object of objects) this.put(object);
  }

  put(object: T): void {
    const key = formatKey(keyOf(object));
    const previous = this.#objects.get(key);
    this.#objects.set(key, object);
    for (const listener of this.#listeners) {
      listener(
        previous ? { type: "updated", key, object, previous } : { type: "added", key, object },
      );
    }
  }

  remove(key: string): void {
    const object = this.#objects.get(key);
    if (!object) return;
    this.#objects.delete(key);
    for (const listener of this.#listeners) {
      listener({ type: "deleted", key, object, previous: object });
    }
  }

  get(key: Parameters<Feed<T>["get"]>[0]): T | undefined {
    return this.#objects.get(typeof key === "string" ? key : formatKey(key));
  }

  list(): T[] {
    return [...this.#objects.values()];
  }

  onChange(listener: Parameters<Feed<T>["onChange"]>[0]): Disposable {
    for (const [key, object] of this.#objects) listener({ type: "added", key, object });
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  async synced(): Promise<void> {}
}

/** The place of one NodeReport, without a cluster: it is written, and told of by a feed. */
export class MemoryReports implements ReportStore {
  /** Every status that was written, oldest first. */
  readonly written: NodeReportStatus[] = [];
  readonly feed = new MemoryFeed<KubeObject>();
  #report: NodeReport | undefined;
  #backup: NodeReport | undefined;
  #version = 0;
  #problem: Error | undefined;
  /** What the feed is to tell later. */
  #late: (() => void)[] | undefined;

  get report(): NodeReport | undefined {
    return this.#report;
  }

  /** Makes every request fail, with `problem` or as if the server were away. */
  fail(problem: Error = new ApiUnreachableError({ method: "PATCH", path: "/" }, "away")): void {
    this.#problem = problem;
  }

  recover(): void {
    this.#problem = undefined;
  }

  /** Lets the feed lag until `catchUp()`. */
  holdFeed(): void {
    this.#late ??= [];
  }

  catchUp(): void {
    const late = this.#late ?? [];
    this.#late = undefined;
    for (const tell of late) tell();
  }

  /** Writes a status as somebody else does. */
  forge(status: NodeReportStatus): void {
    this.#keep({ status });
  }

  /** Deletes the report, as a person does. */
  delete(): void {
    this.#version++;
    this.#report = undefined;
    this.#tell(() => this.feed.remove("worker"));
  }

  backUp(): void {
    this.#backup = this.#report;
  }

  /** Goes back to the backup, with a jump of the versions to come, as etcd does. */
  goBack(): void {
    this.#version += 1_000;
    const report = this.#backup;
    this.#report = report;
    this.#tell(() => {
      if (report) this.feed.put({ metadata: report.metadata });
      else this.feed.remove("worker");
    });
  }

  async read(): Promise<NodeReport | undefined> {
    if (this.#problem) throw this.#problem;
    return this.#report;
  }

  async ensure(nodeUid: string): Promise<KubeObject> {
    if (this.#problem) throw this.#problem;
    const owner = { apiVersion: "v1", kind: "Node", name: "worker", uid: nodeUid };
    return this.#keep({ ...this.#report }, [owner]);
  }

  async writeStatus(status: NodeReportStatus): Promise<KubeObject | undefined> {
    if (this.#problem) throw this.#problem;
    if (!this.#report) return undefined;
    this.written.push(status);
    return this.#keep({ ...this.#report, status });
  }

  #keep(
    report: Omit<NodeReport, "metadata">,
    ownerReferences = this.#report?.metadata.ownerReferences ?? [],
  ): KubeObject {
    const resourceVersion = String(++this.#version);
    const uid = this.#report?.metadata.uid ?? `uid-${resourceVersion}`;
    const metadata = { name: "worker", uid, resourceVersion, ownerReferences };
    this.#report = { ...report, metadata };
    this.#tell(() => this.feed.put({ metadata }));
    return { metadata };
  }

  #tell(tell: () => void): void {
    if (this.#late) this.#late.push(tell);
    else tell();
  }
}

export interface AgentWorldOptions {
  plans?: readonly ImagePlan[];
  node?: Node;
  runtime?: MemoryRuntime;
  reports?: MemoryReports;
  clock?: ManualClock;
  settings?: Partial<AgentSettings>;
  /** What the agent has besides: logins, slots, a disk, a look at stalls. */
  deps?: Pick<AgentDeps, "logins" | "slots" | "disk" | "stalls">;
}

/** An agent at work, with everything around it in memory and a clock that stands still. */
export class AgentWorld implements AsyncDisposable {
  readonly clock: ManualClock;
  readonly runtime: MemoryRuntime;
  readonly plans: MemoryFeed<ImagePlan>;
  readonly nodes: MemoryFeed<Node>;
  readonly reports: MemoryReports;
  readonly agent: Agent;
  readonly metrics = new Registry();
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  private constructor(options: AgentWorldOptions) {
    this.clock = options.clock ?? new ManualClock();
    this.runtime = options.runtime ?? new MemoryRuntime();
    this.reports = options.reports ?? new MemoryReports();
    this.plans = new MemoryFeed(...(options.plans ?? []));
    this.nodes = new MemoryFeed(options.node ?? aNode());
    const settings: AgentSettings = {
      nodeName: "worker",
      agentVersion: "1.2.3",
      pullConcurrency: 4,
      pullTimeoutMs: 60_000,
      errorThreshold: 3,
      backoffMinMs: 10_000,
      backoffMaxMs: 600_000,
      ...options.settings,
    };
    this.agent = new Agent(settings, {
      clock: this.clock,
      runtime: this.runtime,
      reports: this.reports,
      ownReport: this.reports.feed,
      plans: this.plans,
      nodes: this.nodes,
      random: () => 0, // The longest wait of each range.
      log: silentLog,
      metrics: agentMetrics(this.metrics),
      ...options.deps,
    });
    this.#running = this.agent.run(this.#stop.signal);
  }

  /** Starts the agent and lets it do what it can without time passing. */
  static async start(options: AgentWorldOptions = {}): Promise<AgentWorld> {
    const world = new AgentWorld(options);
    await world.clock.advance(0);
    return world;
  }

  /** The stored report's entry for a reference. */
  reported(reference: string): ReportedImage | undefined {
    return this.reports.report?.status?.images.find((image) => image.reference === reference);
  }

  /** Lets everything happen that needs no time. */
  async settle(): Promise<void> {
    await this.clock.advance(0);
  }

  /** Stops the agent and waits for its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error("The test has ended"));
    await this.#running;
  }
}
