// A process of simulated agents. It runs inside the sandbox's network, and does what its parent says.
import { agentMetrics } from "#agent/metrics.ts";
import { systemClock } from "#async/clock.ts";
import { jsonLog, type Log } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import {
  parseRequest,
  type AgentSeat,
  type FleetAnswer,
  type FleetCommand,
  type FleetFigures,
} from "./messages.ts";
import { SimulatedAgent, type SimulatedAgentDeps, type Tallies } from "./simulated-agent.ts";
import { Catalogue, SimulatedRuntime } from "./simulated-runtime.ts";

type Configuration = Extract<FleetCommand, { kind: "configure" }>;

const tallies: Tallies = { reportWrites: 0, planBytes: 0, nodeBytes: 0, reportBytes: 0 };
const complaints: Record<string, number> = {};
let catalogue: Catalogue | undefined;
const agents = new Map<string, SimulatedAgent>();
const runtimes = new Map<string, SimulatedRuntime>();
const metrics = agentMetrics(new Registry());
const log = complaintsOnly(jsonLog({ level: "warn", write: (line) => process.stderr.write(line) }));
let configuration: Configuration | undefined;

process.on("message", (message) => void answer(message));
process.once("disconnect", () => process.exit()); // Our parent is gone, and with it our purpose.

async function answer(message: unknown): Promise<void> {
  const { id, command } = parseRequest(message);
  try {
    const figures = await carryOut(command);
    send({ id, ...(figures && { figures }) });
  } catch (error) {
    send({ id, error: String(error) });
  }
}

function send(reply: FleetAnswer): void {
  process.send?.(reply);
}

async function carryOut(command: FleetCommand): Promise<FleetFigures | undefined> {
  switch (command.kind) {
    case "configure":
      configuration = command;
      return undefined;
    case "start":
      if (!configuration) throw new Error("Agents must be configured before they start");
      for (const seat of command.agents) start(seat, configuration);
      return undefined;
    case "stop":
      await Promise.all(command.nodes.map(stop));
      return undefined;
    case "figures":
      return figuresNow();
  }
}

function start(seat: AgentSeat, settings: Configuration): void {
  const { server, ca, controllerHost, pullMs, digests } = settings;
  catalogue ??= new Catalogue(digests);
  const runtime =
    runtimes.get(seat.node) ?? new SimulatedRuntime(catalogue, { pullMs, clock: systemClock });
  runtimes.set(seat.node, runtime);
  const deps: SimulatedAgentDeps = {
    cluster: { server: new URL(server), ca },
    controllerHost,
    runtime,
    tallies,
    metrics,
    log,
  };
  agents.set(seat.node, new SimulatedAgent(seat, deps));
}

async function stop(node: string): Promise<void> {
  await agents.get(node)?.stop();
  agents.delete(node);
}

function figuresNow(): FleetFigures {
  return {
    ...tallies,
    ready: [...agents.values()].filter(({ isReady }) => isReady).length,
    pulls: runtimes.values().reduce((sum, { pulls }) => sum + pulls, 0),
    complaints,
  };
}

/** Counts warnings and errors by message, and writes the first of each: all agents say the same. */
function complaintsOnly(written: Log): Log {
  const note = (level: "error" | "warn"): Log["warn"] => {
    return (message, fields) => {
      complaints[message] = (complaints[message] ?? 0) + 1;
      if (complaints[message] === 1) written[level](message, fields);
    };
  };
  return {
    error: note("error"),
    warn: note("warn"),
    info() {},
    debug() {},
    child: (fields) => complaintsOnly(written.child(fields)),
  };
}
