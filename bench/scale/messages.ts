import * as z from "zod/mini";

const agentSchema = z.object({
  node: z.string(),
  /** Of the agents' service account, bound to the agent's pod on this node. */
  token: z.string(),
  /** The same, for the controller alone. */
  controllerToken: z.string(),
});

const commandSchema = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("configure"),
    server: z.string(),
    ca: z.string(),
    /** Address of the controller's Service. */
    controllerHost: z.string(),
    pullMs: z.number(),
    /** By reference: what its registry has under the name. */
    digests: z.record(z.string(), z.string()),
  }),
  z.object({ kind: z.literal("start"), agents: z.array(agentSchema) }),
  z.object({ kind: z.literal("stop"), nodes: z.array(z.string()) }),
  z.object({ kind: z.literal("figures") }),
]);

const requestSchema = z.object({ id: z.int(), command: commandSchema });

const figuresSchema = z.object({
  /** Agents that run and have nothing to complain of. */
  ready: z.int(),
  pulls: z.int(),
  /** Statuses of NodeReports that were written. */
  reportWrites: z.int(),
  /** What the API server sent on watches, in bytes of JSON. */
  planBytes: z.int(),
  nodeBytes: z.int(),
  reportBytes: z.int(),
  /** Warnings and errors that the agents logged, by message. */
  complaints: z.record(z.string(), z.int()),
});

const answerSchema = z.object({
  id: z.int(),
  figures: z.exactOptional(figuresSchema),
  error: z.exactOptional(z.string()),
});

/** An agent that is to be simulated. */
export type AgentSeat = z.infer<typeof agentSchema>;

/** What a process of simulated agents is told to do. */
export type FleetCommand = z.infer<typeof commandSchema>;

export type FleetRequest = z.infer<typeof requestSchema>;

/** What the agents of a process, or of several, did so far. */
export type FleetFigures = z.infer<typeof figuresSchema>;

/** The end of a command: `error` if it failed, `figures` if they were asked for. */
export type FleetAnswer = z.infer<typeof answerSchema>;

export function parseRequest(message: unknown): FleetRequest {
  return z.parse(requestSchema, message);
}

export function parseAnswer(message: unknown): FleetAnswer {
  return z.parse(answerSchema, message);
}

/** What no agent did. */
export const noFigures: FleetFigures = {
  ready: 0,
  pulls: 0,
  reportWrites: 0,
  planBytes: 0,
  nodeBytes: 0,
  reportBytes: 0,
  complaints: {},
};

/** Adds up what the agents of two groups did. */
export function sumOf(a: FleetFigures, b: FleetFigures): FleetFigures {
  const complaints = { ...a.complaints };
  for (const [message, count] of Object.entries(b.complaints)) {
    complaints[message] = (complaints[message] ?? 0) + count;
  }
  return {
    ready: a.ready + b.ready,
    pulls: a.pulls + b.pulls,
    reportWrites: a.reportWrites + b.reportWrites,
    planBytes: a.planBytes + b.planBytes,
    nodeBytes: a.nodeBytes + b.nodeBytes,
    reportBytes: a.reportBytes + b.reportBytes,
    complaints,
  };
}
