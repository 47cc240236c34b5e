import { setTimeout as sleep } from "node:timers/promises";

import type { Image } from "#api/v1/image.ts";
import type { ImagePlan } from "#api/v1/image-plan.ts";
import { imagePlans, images } from "#api/v1/resources.ts";
import { systemClock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import type { KubeClient } from "#kube/client.ts";
import { Informer } from "#kube/informer.ts";
import { pods } from "#kube/resource.ts";
import type { Pod } from "#kube/types.ts";
import { coralNamespace } from "#sandbox/control-plane.ts";
import { installCoral } from "#sandbox/install-coral.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import { waitFor } from "#sandbox/wait.ts";
import { silentLog } from "#telemetry/log.ts";
import { containerPids, readProcess, type ProcessFigures } from "#bench/processes.ts";
import { Fleet } from "./fleet.ts";
import {
  anApplication,
  applications,
  imageNamespace,
  pushApplications,
  type Application,
} from "./images.ts";
import { createNodes, nodeNames, readyAgentOn, seatsOf } from "./nodes.ts";
import type { ScaleOptions } from "./options.ts";
import type { Span } from "./requests.ts";
import { isRight } from "./statuses.ts";

/** Agents that are started together: more handshakes at once would outlast their time limit here. */
const startBatch = 100;

/** Longest wait for the slowest part of a run, in milliseconds. */
const longestMs = 30 * 60_000;

const progressMs = 10_000;

/** A cluster with Coral in it, of one real node and many simulated ones. */
export class World implements AsyncDisposable {
  readonly options: ScaleOptions;
  readonly sandbox: Sandbox;
  readonly client: KubeClient;
  readonly fleet: Fleet;
  /** The Images that are asked for at first. */
  readonly wanted: readonly Application[];
  /** One of them, with one image more. */
  readonly grown: Application;
  /** An Image to ask for with a pull secret. */
  readonly withSecret: Application;
  readonly images: Informer<Image>;
  readonly plans: Informer<ImagePlan>;
  /** The agents' pods. */
  readonly pods: Informer<Pod>;
  readonly spans: Span[] = [];
  readonly signal: AbortSignal;
  readonly #report: (line: string) => void;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    parts: Pick<
      World,
      | "options"
      | "sandbox"
      | "client"
      | "fleet"
      | "wanted"
      | "grown"
      | "withSecret"
      | "images"
      | "plans"
      | "pods"
      | "signal"
    >,
    report: (line: string) => void,
    stack: AsyncDisposableStack,
  ) {
    this.options = parts.options;
    this.sandbox = parts.sandbox;
    this.client = parts.client;
    this.fleet = parts.fleet;
    this.wanted = parts.wanted;
    this.grown = parts.grown;
    this.withSecret = parts.withSecret;
    this.images = parts.images;
    this.plans = parts.plans;
    this.pods = parts.pods;
    this.signal = parts.signal;
    this.#report = report;
    this.#stack = stack;
  }

  /** Starts everything but the agents. Coral itself runs on the real node, as it ships. */
  static async start(
    options: ScaleOptions,
    { report, signal }: { report: (line: string) => void; signal: AbortSignal },
  ): Promise<World> {
    await using stack = new AsyncDisposableStack();
    const sandbox = stack.use(await Sandbox.start({ nodes: 1, withKwok: true, report, signal }));
    report(`the cluster is sandbox "${sandbox.name}"`);
    const wanted = applications(options.images, options.tags);
    const [grown = anApplication("none", 0)] = applications(1, options.tags + 1);
    const withSecret = anApplication("with-secret", 1);
    const all = [...wanted, grown, withSecret];
    const digests = await pushApplications(sandbox, all, { signal });
    report(`${Object.keys(digests).length} references are at the registry`);
    await installCoral(sandbox, { signal });
    report("Coral is installed");
    const client = stack.use(await sandbox.connect());
    await sandbox.kubectl(["create", "namespace", imageNamespace], { signal });
    const { processes, pullMs } = options;
    const fleet = stack.use(await Fleet.start(sandbox, { processes, pullMs, digests }, { signal }));
    const group = stack.use(new TaskGroup(signal));
    const common = { client, log: silentLog, clock: systemClock };
    const parts = {
      images: new Informer({ ...common, resource: images, namespace: imageNamespace }),
      plans: new Informer({ ...common, resource: imagePlans, namespace: imageNamespace }),
      pods: new Informer({
        ...common,
        resource: pods,
        namespace: coralNamespace,
        labelSelector: "app.kubernetes.io/component=agent",
      }),
    };
    for (const informer of Object.values(parts)) {
      void group.run((scope) => informer.run(scope)).catch(() => {}); // Ends with the group.
      await informer.synced({ signal });
    }
    const what = { options, sandbox, client, fleet, wanted, grown, withSecret, signal };
    return new World({ ...what, ...parts }, report, stack.move());
  }

  report(line: string): void {
    this.#report(line);
  }

  /** Does something and remembers when, so that its requests can be counted later. */
  async span<T>(name: string, work: () => Promise<T>): Promise<T> {
    const startMs = Date.now();
    try {
      return await work();
    } finally {
      const endMs = Date.now();
      this.spans.push({ name, startMs, endMs });
      this.report(`${name}: ${((endMs - startMs) / 1_000).toFixed(1)} s`);
    }
  }

  /** Waits for a fact, and says now and then how far it is. */
  async until(
    what: string,
    look: () => Promise<boolean> | boolean,
    { everyMs = 20, timeoutMs = longestMs }: { everyMs?: number; timeoutMs?: number } = {},
  ): Promise<void> {
    let toldAtMs = Date.now();
    const lookAndTell = async (): Promise<boolean> => {
      if (Date.now() - toldAtMs >= progressMs) {
        toldAtMs = Date.now();
        this.report(`  waiting for ${what}: ${await this.#progress()}`);
      }
      return look();
    };
    const explain = (): Promise<string> => this.#progress();
    await waitFor(lookAndTell, { what, everyMs, timeoutMs, explain, signal: this.signal });
  }

  /** Makes the simulated nodes and waits for an agent's pod on each. */
  async addNodes(): Promise<void> {
    const { signal, options } = this;
    await this.sandbox.start("kwok", { signal });
    const { nodeImages } = options;
    await createNodes(this.client, nodeNames(options.nodes), { nodeImages, signal });
    await this.until(
      "an agent's pod on every node",
      () => this.agentPods().length === options.nodes,
    );
  }

  /** The agents' pods that are Ready on simulated nodes. */
  agentPods(): Pod[] {
    return this.pods.list().filter((pod) => readyAgentOn(pod) !== undefined);
  }

  /** Starts agents with the identity of these pods, and waits until each has a report. */
  async startAgents(agentPods: readonly Pod[]): Promise<void> {
    const { signal, fleet } = this;
    const seats = await seatsOf(this.client, agentPods, { signal });
    let started = (await fleet.figures({ signal })).ready;
    for (let first = 0; first < seats.length; first += startBatch) {
      const batch = seats.slice(first, first + startBatch);
      await fleet.startAgents(batch, { signal });
      started += batch.length;
      const areReady = async (): Promise<boolean> =>
        (await fleet.figures({ signal })).ready >= started;
      await this.until(`${started} agents to be ready`, areReady, { everyMs: 100 });
    }
  }

  /** How many Images have the status that all nodes have all of their images. */
  rightStatuses(): number {
    return this.images.list().filter((image) => isRight(image, this.options.nodes)).length;
  }

  /** Waits until so many Images have the right status. @returns when, in milliseconds since 1970. */
  async untilRight(count: number): Promise<number> {
    await this.until("right statuses", () => this.rightStatuses() === count);
    return Date.now();
  }

  /** Lets reports, labels and leases come to rest. */
  async settle(seconds: number): Promise<void> {
    await sleep(seconds * 1_000, undefined, { signal: this.signal });
  }

  /** What the controller's replicas use, that with the larger memory first. */
  async controllers(): Promise<ProcessFigures[]> {
    const node = this.sandbox.node("node1");
    const pids = await containerPids(node, "controller", { signal: this.signal });
    const figures = await Promise.all(pids.map(readProcess));
    return figures.toSorted((a, b) => b.peakResidentMegabytes - a.peakResidentMegabytes);
  }

  /** What a component of the control plane uses. */
  async component(id: string): Promise<ProcessFigures> {
    const found = (await this.sandbox.components()).find((component) => component.id === id);
    if (found?.pid === undefined) throw new Error(`Component "${id}" does not run`);
    return readProcess(found.pid);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }

  async #progress(): Promise<string> {
    const { ready, pulls, reportWrites } = await this.fleet.figures({ signal: this.signal });
    const there = this.agentPods().length;
    const right = this.rightStatuses();
    return `${there} pods and ${ready} agents ready, ${pulls} pulls, ${reportWrites} reports, ${right} statuses right`;
  }
}
