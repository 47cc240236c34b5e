import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

import { coralNamespace, insideControlPlane } from "#sandbox/control-plane.ts";
import { apiServerUrl } from "#sandbox/pki.ts";
import type { Sandbox } from "#sandbox/sandbox.ts";
import {
  noFigures,
  parseAnswer,
  sumOf,
  type AgentSeat,
  type FleetAnswer,
  type FleetCommand,
  type FleetFigures,
  type FleetRequest,
} from "./messages.ts";

type Scope = { signal: AbortSignal };

export interface FleetOptions {
  processes: number;
  /** Mean time of a pull, in milliseconds. */
  pullMs: number;
  /** By reference: what its registry has under the name. */
  digests: Readonly<Record<string, string>>;
}

/** Longest wait for a process to do as told: a stop flushes reports. */
const commandTimeoutMs = 60_000;

/** Simulated agents, spread over processes that live inside the sandbox's network. */
export class Fleet implements AsyncDisposable {
  readonly #members: FleetProcess[];
  readonly #memberOf = new Map<string, FleetProcess>();

  private constructor(members: FleetProcess[]) {
    this.#members = members;
  }

  static async start(
    sandbox: Sandbox,
    { processes, pullMs, digests }: FleetOptions,
    { signal }: Scope,
  ): Promise<Fleet> {
    const { ca = "" } = await sandbox.clusterConfig();
    const service = ["-n", coralNamespace, "get", "service", "coral-controller"];
    const address = ["-o", "jsonpath={.spec.clusterIP}"];
    const controllerHost = (await sandbox.kubectl([...service, ...address], { signal })).stdout;
    const members = Array.from({ length: processes }, () => new FleetProcess(sandbox));
    const fleet = new Fleet(members);
    const where = { server: apiServerUrl, ca, controllerHost };
    try {
      const command = { kind: "configure", ...where, pullMs, digests: { ...digests } } as const;
      await fleet.#tellAll(command, { signal });
    } catch (error) {
      await fleet[Symbol.asyncDispose]();
      throw error;
    }
    return fleet;
  }

  /** Pids of its processes. */
  get pids(): number[] {
    return this.#members.map(({ pid }) => pid);
  }

  /** Starts agents. A node's second agent finds what its first one pulled. */
  async startAgents(seats: readonly AgentSeat[], { signal }: Scope): Promise<void> {
    const shares = Map.groupBy(seats, ({ node }) => this.#memberFor(node));
    await Promise.all(
      shares
        .entries()
        .map(([member, agents]) => member.tell({ kind: "start", agents }, { signal })),
    );
  }

  /** Ends agents as a SIGTERM does, and waits until they are gone. */
  async stopAgents(nodes: readonly string[], { signal }: Scope): Promise<void> {
    const shares = Map.groupBy(nodes, (node) => this.#memberFor(node));
    await Promise.all(
      shares
        .entries()
        .map(([member, share]) => member.tell({ kind: "stop", nodes: share }, { signal })),
    );
  }

  /** What all agents together did so far. */
  async figures({ signal }: Scope): Promise<FleetFigures> {
    const answers = await this.#tellAll({ kind: "figures" }, { signal });
    return answers.map(({ figures = noFigures }) => figures).reduce(sumOf, noFigures);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#members.map((member) => member[Symbol.asyncDispose]()));
  }

  async #tellAll(command: FleetCommand, { signal }: Scope): Promise<FleetAnswer[]> {
    return Promise.all(this.#members.map((member) => member.tell(command, { signal })));
  }

  #memberFor(node: string): FleetProcess {
    const known = this.#memberOf.get(node);
    if (known) return known;
    const member = this.#members[this.#memberOf.size % this.#members.length];
    if (!member) throw new RangeError("A fleet must have a process");
    this.#memberOf.set(node, member);
    return member;
  }
}

/** One process of simulated agents, as its parent sees it. */
class FleetProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, PromiseWithResolvers<FleetAnswer>>();
  #sent = 0;

  constructor(sandbox: Sandbox) {
    const main = join(import.meta.dirname, "main.ts");
    const argv = insideControlPlane(sandbox.layout, [process.execPath, main]);
    const [file = "", ...args] = argv;
    this.#child = spawn(file, args, { stdio: ["ignore", "ignore", "inherit", "ipc"] });
    this.#child.on("message", (message) => this.#take(parseAnswer(message)));
    this.#child.once("error", (error) => this.#fail(error));
    this.#child.once("exit", (code, by) =>
      this.#fail(new Error(`A process of simulated agents ended with ${code ?? by}`)),
    );
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** @throws {Error} if it fails, takes too long, or the process ends. */
  async tell(command: FleetCommand, { signal }: Scope): Promise<FleetAnswer> {
    signal.throwIfAborted();
    const id = ++this.#sent;
    const answer = Promise.withResolvers<FleetAnswer>();
    const abort = (): void => answer.reject(signal.reason);
    const timer = setTimeout(() => {
      answer.reject(new Error(`Command "${command.kind}" took longer than ${commandTimeoutMs} ms`));
    }, commandTimeoutMs);
    signal.addEventListener("abort", abort, { once: true });
    this.#waiting.set(id, answer);
    const request: FleetRequest = { id, command };
    this.#child.send(request, (error) => error && answer.reject(error));
    try {
      const reply = await answer.promise;
      if (reply.error !== undefined) throw new Error(`"${command.kind}" failed: ${reply.error}`);
      return reply;
    } finally {
      this.#waiting.delete(id);
      signal.removeEventListener("abort", abort);
      clearTimeout(timer);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await gone;
  }

  #take(answer: FleetAnswer): void {
    this.#waiting.get(answer.id)?.resolve(answer);
  }

  #fail(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error);
  }
}
