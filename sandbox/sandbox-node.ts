import { readFile } from "node:fs/promises";

import { run, type CommandOptions, type CommandResult } from "./command.ts";
import type { Daemons } from "./daemon.ts";
import type { Layout, NodeLayout } from "./layout.ts";
import { createNodeNetwork, cutLink, limitLink, restoreLink } from "./network.ts";
import {
  anchorDaemon,
  insideNode,
  nodeComponents,
  nodeDaemon,
  writeNodeConfig,
} from "./node-daemons.ts";
import { createNodePki } from "./pki.ts";
import { tearDownNode } from "./tear-down.ts";
import type { Programs } from "./toolchain/build.ts";
import { waitFor } from "./wait.ts";

type Scope = { signal: AbortSignal };

export interface NodeContext {
  layout: Layout;
  programs: Programs;
  daemons: Daemons;
}

/** One node of a sandbox: a machine of its own as far as Kubernetes can tell. */
export class SandboxNode {
  readonly layout: NodeLayout;
  readonly #context: NodeContext;

  constructor(layout: NodeLayout, context: NodeContext) {
    this.layout = layout;
    this.#context = context;
  }

  get name(): string {
    return this.layout.name;
  }

  /** Makes its network, mounts and files, and starts containerd, which needs no API server. */
  async create({ signal }: Scope): Promise<void> {
    const { layout, programs, daemons } = this.#context;
    await Promise.all([
      createNodeNetwork(layout, this.layout, { signal }),
      createNodePki(layout, this.layout, { signal }),
      writeNodeConfig(layout, this.layout, programs),
    ]);
    const anchor = anchorDaemon(this.layout);
    await daemons.spawn(anchor);
    await waitFor(async () => (await readFile(layout.logOf(anchor.id), "utf8")).includes("ready"), {
      what: `${this.name} to be mounted`,
      everyMs: 20,
      timeoutMs: 20_000,
      explain: () => daemons.lastLines(anchor.id),
      signal,
    });
    await this.start("containerd", { signal });
  }

  /** Starts the kubelet and kube-proxy. */
  async startDaemons({ signal }: Scope): Promise<void> {
    await this.start("kubelet", { signal });
    await this.start("kube-proxy", { signal });
  }

  /** Starts one of its components: `containerd` (and waits until it serves), `kubelet`, `kube-proxy`. */
  async start(component: string, { signal }: Scope): Promise<void> {
    const known = nodeComponents.find((name) => name === component);
    if (!known) throw new RangeError(`A node has no component "${component}"`);
    const { layout, programs, daemons } = this.#context;
    const anchorPid = await this.anchorPid();
    await daemons.spawn(nodeDaemon(known, layout, this.layout, anchorPid, programs));
    if (known !== "containerd") return;
    await waitFor(
      async () => {
        await daemons.require(`${this.name}/containerd`);
        await this.crictl(["version"], { signal });
        return true;
      },
      {
        what: `containerd of ${this.name} to serve`,
        explain: () => daemons.lastLines(`${this.name}/containerd`),
        signal,
      },
    );
  }

  /** Asks one of its components to end and waits until it has. */
  async stop(component: string, { signal }: Scope): Promise<void> {
    await this.#context.daemons.stop(`${this.name}/${component}`, { signal });
  }

  /** Ends one of its components at once, as a crash would. */
  async kill(component: string, { signal }: Scope): Promise<void> {
    await this.#context.daemons.kill(`${this.name}/${component}`, { signal });
  }

  /** containerd's socket, for programs outside of the node. */
  async criSocket(): Promise<string> {
    return `/proc/${await this.anchorPid()}/root/run/containerd/containerd.sock`;
  }

  /** Runs a command of the host inside the node's network and mounts. */
  async exec(argv: readonly string[], options: CommandOptions): Promise<CommandResult> {
    const env = { ...process.env, PATH: this.#context.programs.path, ...options.env };
    return run(insideNode(await this.anchorPid(), argv), { ...options, env });
  }

  /** Runs `crictl` on the node. */
  async crictl(args: readonly string[], options: CommandOptions): Promise<CommandResult> {
    const endpoint = "unix:///run/containerd/containerd.sock";
    const crictl = this.#context.programs.file("crictl");
    const flags = ["--runtime-endpoint", endpoint, "--image-endpoint", endpoint];
    return this.exec([crictl, ...flags, ...args], options);
  }

  /** Pulls its network cable. */
  async cutLink({ signal }: Scope): Promise<void> {
    await cutLink(this.#context.layout, this.layout, { signal });
  }

  async restoreLink({ signal }: Scope): Promise<void> {
    await restoreLink(this.#context.layout, this.layout, { signal });
  }

  /** Limits what it receives, in megabits per second; `undefined` lifts the limit. */
  async limitRate(megabitsPerSecond: number | undefined, { signal }: Scope): Promise<void> {
    await limitLink(this.#context.layout, this.layout, megabitsPerSecond, { signal });
  }

  /** Ends it and removes what it left, as when a machine is switched off for good. */
  async destroy({ signal }: Scope): Promise<void> {
    await tearDownNode(this.#context.layout, this.layout, { signal });
  }

  /** Process that holds its network and mount namespaces. */
  async anchorPid(): Promise<number> {
    return (await this.#context.daemons.require(`${this.name}/anchor`)).pid;
  }
}
