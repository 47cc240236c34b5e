import { Agent } from "#agent/agent.ts";
import type { AgentMetrics } from "#agent/metrics.ts";
import { ControllerClient } from "#agent/controller-client.ts";
import { clusterReportStore, nodeReportMetadata, type ReportStore } from "#agent/report-store.ts";
import { slimNode, slimPlan, slimReport } from "#agent/transforms.ts";
import { imagePlans } from "#api/v1/resources.ts";
import { systemClock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import { KubeClient } from "#kube/client.ts";
import type { ClusterConfig } from "#kube/cluster-config.ts";
import { Informer, type InformerOptions } from "#kube/informer.ts";
import { nodes } from "#kube/resource.ts";
import type { KubeObject } from "#kube/types.ts";
import { coralNamespace } from "#sandbox/control-plane.ts";
import type { Log } from "#telemetry/log.ts";
import type { AgentSeat } from "./messages.ts";
import type { SimulatedRuntime } from "./simulated-runtime.ts";

/** The agent's own settings, as they are if nobody sets them (src/cmd/agent.config.ts). */
const settings = {
  agentVersion: "0.1.0",
  pullConcurrency: 4,
  pullTimeoutMs: 30 * 60_000,
  errorThreshold: 3,
  backoffMinMs: 10_000,
  backoffMaxMs: 10 * 60_000,
};

/** What the agents of a process did, added up as they go. */
export interface Tallies {
  reportWrites: number;
  planBytes: number;
  nodeBytes: number;
  reportBytes: number;
}

export interface SimulatedAgentDeps {
  cluster: Omit<ClusterConfig, "token">;
  /** Address of the controller's Service, which answers for logins and slots. */
  controllerHost: string;
  /** Outlives the agent, as a node's runtime does. */
  runtime: SimulatedRuntime;
  tallies: Tallies;
  /** One for all agents of the process: its numbers are nobody's. */
  metrics: AgentMetrics;
  log: Log;
}

/**
 * Runs the agent of a node as `coral agent` does, but for the container runtime: connection, watches
 * and reports are its own. It looks for no room on a disk and no stalled downloads: there are none.
 */
export class SimulatedAgent {
  readonly #seat: AgentSeat;
  readonly #deps: SimulatedAgentDeps;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #agent: Agent | undefined;

  constructor(seat: AgentSeat, deps: SimulatedAgentDeps) {
    this.#seat = seat;
    this.#deps = deps;
    this.#running = this.#run(this.#stop.signal);
    this.#running.catch((error: unknown) => deps.log.error("agent failed", { error }));
  }

  get isReady(): boolean {
    return this.#agent?.problem() === undefined && this.#agent !== undefined;
  }

  /** Ends it as a SIGTERM does, and waits until it is gone. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error("The agent is asked to stop"));
    await this.#running;
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { cluster, controllerHost, runtime, tallies, metrics } = this.#deps;
    const { node, token, controllerToken } = this.#seat;
    const log = this.#deps.log.child({ node });
    const clock = systemClock;
    const common = { clock, random: Math.random, log };
    const config = { ...cluster, token: () => Promise.resolve(token) };
    await using client = new KubeClient({ config, log, userAgent: "coral-agent/0.1.0" });
    await using controller = new ControllerClient({
      client,
      namespace: coralNamespace,
      token: () => Promise.resolve(controllerToken),
      clock,
      address: { host: controllerHost, port: 443 },
    });
    const plans = new Informer({
      ...common,
      client: counting(client, (bytes) => (tallies.planBytes += bytes)),
      resource: imagePlans,
      transform: slimPlan,
    });
    const own = { ...common, fieldSelector: `metadata.name=${node}` };
    const ownNode = new Informer({
      ...own,
      client: counting(client, (bytes) => (tallies.nodeBytes += bytes)),
      resource: nodes,
      transform: slimNode,
    });
    const ownReport = new Informer({
      ...own,
      client: counting(client, (bytes) => (tallies.reportBytes += bytes)),
      resource: nodeReportMetadata,
      transform: slimReport,
    });
    const agent = new Agent(
      { ...settings, nodeName: node },
      {
        ...common,
        runtime,
        plans,
        nodes: ownNode,
        ownReport,
        logins: controller,
        slots: controller,
        reports: counted(clusterReportStore(client, node), tallies),
        metrics,
      },
    );
    this.#agent = agent;
    await using group = new TaskGroup(signal);
    await Promise.all([
      group.run((scope) => plans.run(scope)),
      group.run((scope) => ownNode.run(scope)),
      group.run((scope) => ownReport.run(scope)),
      group.run((scope) => agent.run(scope)),
    ]);
  }
}

/**
 * A client whose watches are measured. The server sends an event as compact JSON and a newline, which
 * is what the event is written as again; headers and frames are not in it.
 */
function counting(
  client: KubeClient,
  add: (bytes: number) => void,
): InformerOptions<KubeObject>["client"] {
  return {
    listRaw: (resource, options) => client.listRaw(resource, options),
    watchError: (resource, status) => client.watchError(resource, status),
    async *watch(resource, options) {
      for await (const event of client.watch(resource, options)) {
        add(Buffer.byteLength(JSON.stringify(event)) + 1);
        yield event;
      }
    },
  };
}

/** A report store that counts the statuses that are written. */
function counted(store: ReportStore, tallies: Tallies): ReportStore {
  return {
    read: (options) => store.read(options),
    ensure: (uid, options) => store.ensure(uid, options),
    async writeStatus(status, options) {
      const report = await store.writeStatus(status, options);
      tallies.reportWrites++;
      return report;
    },
  };
}
