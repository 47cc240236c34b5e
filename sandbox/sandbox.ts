import { rm } from "node:fs/promises";
import { join } from "node:path";

import { TaskGroup } from "#async/task-group.ts";
import { KubeClient } from "#kube/client.ts";
import { kubeconfigFile, type ClusterConfig } from "#kube/cluster-config.ts";
import { silentLog } from "#telemetry/log.ts";
import { createNodeCgroup } from "./cgroups.ts";
import { run, runToEnd, type CommandOptions, type CommandResult } from "./command.ts";
import {
  controlPlaneComponents,
  controlPlaneDaemon,
  dnsObjects,
  insideControlPlane,
  kubeProxyFlags,
  writeControlPlaneConfig,
} from "./control-plane.ts";
import { Daemons, type Daemon } from "./daemon.ts";
import { ensureDebianPackages } from "./debian-packages.ts";
import { startForwarder } from "./forwarder/start.ts";
import { ensureFixtureImages, fixtureReferences } from "./images/fixture-images.ts";
import { prepareKwok } from "./kwok.ts";
import { controlPlaneAddress, dnsAddress, Layout } from "./layout.ts";
import { createNetwork } from "./network.ts";
import { allowInotify } from "./inotify.ts";
import { createPki, writeHostKubeconfig } from "./pki.ts";
import { isAlive, thisProcess } from "./process-id.ts";
import { openRegistry, registryHosts, tokenRealm } from "./registry-hosts.ts";
import { prepareRegistry, realmDaemon, writePushConfig } from "./registry.ts";
import { SandboxNode, type NodeContext } from "./sandbox-node.ts";
import { readState, writeState, type SandboxState } from "./state.ts";
import { removeOrphans, tearDown } from "./tear-down.ts";
import { ensurePrograms, type Programs } from "./toolchain/build.ts";
import { Upstream, upstreamDaemon } from "./upstream/upstream.ts";
import { waitFor } from "./wait.ts";

type Scope = { signal: AbortSignal };

export interface StartOptions {
  /** One to sixteen lower-case letters and digits; made from this process's pid if not given. */
  name?: string;
  /** Nodes to start with; 0 gives a control plane alone. */
  nodes: number;
  /** Whether `start("kwok")` is to work, which simulates nodes beside the real ones. */
  withKwok?: boolean;
  /** Whether the sandbox stays when this process ends. */
  keep?: boolean;
  /** Gets a line for each thing that takes long. */
  report?: (line: string) => void;
  signal: AbortSignal;
}

/** What a kubelet takes at most to start beside others, on the two cores of a small machine. */
const startMsPerNode = 10_000;

let started = 0;

/**
 * A real Kubernetes cluster on this machine, with registries that stand for the internet.
 *
 * ```ts
 * await using sandbox = await Sandbox.start({ nodes: 3, signal });
 * await sandbox.kubectl(["get", "nodes"], { signal });
 * ```
 *
 * Everything lives in network, mount and control groups of its own; nothing can be reached from
 * outside but through ports on 127.0.0.1, and no packet leaves the machine.
 */
export class Sandbox implements AsyncDisposable {
  readonly layout: Layout;
  readonly programs: Programs;
  readonly upstream: Upstream;
  readonly #daemons: Daemons;
  readonly #nodes = new Map<string, SandboxNode>();
  #state: SandboxState;

  private constructor(layout: Layout, programs: Programs, state: SandboxState) {
    this.layout = layout;
    this.programs = programs;
    this.upstream = new Upstream(layout);
    this.#daemons = new Daemons(layout);
    this.#state = state;
    for (const index of state.nodes) this.#adopt(index);
  }

  /** The images that the open registry serves from the start, as pods name them. */
  static readonly images = fixtureReferences;

  /**
   * Starts a cluster and returns when all its nodes are Ready. A sandbox of the same name that was
   * left over or kept is removed first, and so is every other whose process has died.
   *
   * @throws {Error} if a living process owns a sandbox of this name, or if a daemon does not come up, with its last log lines. Nothing is left then.
   */
  static async start({ signal, ...options }: StartOptions): Promise<Sandbox> {
    const report = options.report ?? (() => {});
    const layout = new Layout(options.name ?? `s${process.pid}x${++started}`);
    await ensureDebianPackages({ report, signal });
    const optional = options.withKwok ? ["kwok"] : [];
    const programs = await ensurePrograms({ report, optional, signal });
    await removeOrphans({ signal });
    await refuseIfInUse(layout);
    await tearDown(layout, { signal });
    const state: SandboxState = {
      owner: thisProcess(), // While it starts, also of one that is to stay.
      nodes: [],
      nextNode: 1,
      ports: { apiServer: 0, registry: 0 },
    };
    await writeState(layout, state);
    const sandbox = new Sandbox(layout, programs, state);
    try {
      await sandbox.#start(options.nodes, { signal });
      if (options.keep) await sandbox.keep();
    } catch (error) {
      // With a signal of its own: whoever aborted the start wants nothing left either.
      await tearDown(layout, { signal: AbortSignal.timeout(60_000) });
      throw error;
    }
    return sandbox;
  }

  /** Finds a sandbox that another process started; `undefined` if there is none of this name. */
  static async attach(name: string, { signal }: Scope): Promise<Sandbox | undefined> {
    const layout = new Layout(name);
    const state = await readState(layout);
    if (!state || state.ports.apiServer === 0) return undefined;
    return new Sandbox(layout, await ensurePrograms({ report: console.error, signal }), state);
  }

  get name(): string {
    return this.layout.name;
  }

  /** Kubeconfig of the cluster's administrator, for programs of the host. */
  get kubeconfig(): string {
    return join(this.layout.pki, "admin.host.kubeconfig");
  }

  /** The cluster, for a client of ours on the host. */
  async clusterConfig(): Promise<ClusterConfig> {
    return kubeconfigFile(this.kubeconfig);
  }

  /** Opens a client of ours as the cluster's administrator. */
  async connect(): Promise<KubeClient> {
    return new KubeClient({
      config: await this.clusterConfig(),
      log: silentLog,
      userAgent: "coral-sandbox",
    });
  }

  /** Ports on the host's 127.0.0.1 that lead to the API server and to the open registry's proxy. */
  get ports(): Readonly<SandboxState["ports"]> {
    return this.#state.ports;
  }

  get nodes(): SandboxNode[] {
    return [...this.#nodes.values()];
  }

  /** @throws {RangeError} if there is no node of this name. */
  node(name: string): SandboxNode {
    const node = this.#nodes.get(name);
    if (!node) throw new RangeError(`Sandbox "${this.name}" has no node "${name}"`);
    return node;
  }

  /** Joins a node to the running cluster and waits until it is Ready. */
  async addNode({ signal }: Scope): Promise<SandboxNode> {
    const [node] = await this.#createNodes(1, { signal });
    if (!node) throw new Error("No node was made");
    await node.startDaemons({ signal });
    await this.#nodesReady([node], { signal });
    return node;
  }

  /** Takes a node away for good, as a cloud's scale-in does: the machine, then its Node object. */
  async removeNode(name: string, { signal }: Scope): Promise<void> {
    const node = this.node(name);
    await node.destroy({ signal });
    await this.kubectl(["delete", "node", name, "--ignore-not-found"], { signal });
    this.#nodes.delete(name);
    await this.#save({ nodes: this.#state.nodes.filter((index) => index !== node.layout.index) });
  }

  /** Everything that {@link start}, {@link stop} and {@link kill} know: `node1/kubelet`. */
  async components(): Promise<{ id: string; pid: number | undefined }[]> {
    const ids = (await this.#daemons.list()).filter((id) => !isFixture(id));
    return Promise.all(ids.map(async (id) => ({ id, pid: (await this.#daemons.find(id))?.pid })));
  }

  /** Asks a component to end and waits until it has. */
  async stop(component: string, { signal }: Scope): Promise<void> {
    await this.#requireComponent(component);
    await this.#daemons.stop(component, { signal });
  }

  /** Ends a component at once, as a crash would. */
  async kill(component: string, { signal }: Scope): Promise<void> {
    await this.#requireComponent(component);
    await this.#daemons.kill(component, { signal });
  }

  /**
   * Starts a component that was stopped or killed. Returns when containerd or the API server
   * answers; others may take a moment.
   */
  async start(component: string, { signal }: Scope): Promise<void> {
    const [nodeName = "", nodeComponent] = component.split("/");
    if (nodeComponent !== undefined) {
      await this.node(nodeName).start(nodeComponent, { signal });
      return;
    }
    await this.#spawn(component);
    if (component === "kube-apiserver") await this.#controlPlaneReady({ signal });
  }

  /**
   * The last lines of a component's log.
   *
   * @throws {RangeError} naming the components that there are, if it is none of them.
   */
  async logs(component: string, lines = 50): Promise<string> {
    await this.#requireComponent(component);
    return this.#daemons.lastLines(component, lines);
  }

  /** Runs `kubectl` as the cluster's administrator. */
  async kubectl(args: readonly string[], options: CommandOptions): Promise<CommandResult> {
    const kubectl = this.programs.file("kubectl");
    return run([kubectl, `--kubeconfig=${this.kubeconfig}`, ...args], options);
  }

  /** Runs a command of the host inside the control plane's network namespace. */
  async exec(argv: readonly string[], options: CommandOptions): Promise<CommandResult> {
    const env = { ...process.env, PATH: this.programs.path, ...options.env };
    return run(insideControlPlane(this.layout, argv), { ...options, env });
  }

  /**
   * Pushes an OCI image layout to a registry, past its proxy, so that it is not counted.
   *
   * @param reference - as nodes pull it: `registry.test:5000/coral/coral:dev`.
   */
  async push(
    folder: string,
    reference: string,
    { isIndex = false, signal }: Scope & { isIndex?: boolean },
  ): Promise<void> {
    const registry = registryHosts.find(({ host }) => reference.startsWith(`${host}/`));
    if (!registry) {
      const hosts = registryHosts.map(({ host }) => host).join(", ");
      throw new RangeError(`Reference "${reference}" must begin with one of: ${hosts}`);
    }
    const name = reference.slice(registry.host.length + 1);
    const target = `${controlPlaneAddress}:${registry.backendPort}/${name}`;
    const flags = ["push", "--insecure", ...(isIndex ? ["--index"] : [])];
    const repository = name.slice(0, name.lastIndexOf(":"));
    const env = { DOCKER_CONFIG: await writePushConfig(this.layout, registry, repository) };
    await this.exec([this.programs.file("crane"), ...flags, folder, target], { env, signal });
  }

  /** Lets the sandbox stay when this process ends; `npm run sandbox -- down` removes it. */
  async keep(): Promise<void> {
    const { owner: _, ...state } = this.#state;
    this.#state = state;
    await writeState(this.layout, state);
  }

  /** Ends the sandbox and removes everything of it from the machine. */
  async down({ signal }: Scope): Promise<void> {
    await tearDown(this.layout, { signal });
  }

  /** Ends the sandbox, unless it was told to stay. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state.owner) await this.down({ signal: AbortSignal.timeout(120_000) });
  }

  async #start(nodes: number, { signal }: Scope): Promise<void> {
    await using group = new TaskGroup(signal);
    const scope = { signal: group.signal };
    const { layout } = this;
    const images = group.run(() => ensureFixtureImages(this.programs, scope));
    await Promise.all([
      group.run(() => createNetwork(layout, scope)),
      group.run(() => createPki(layout, scope)),
      group.run(() => writeControlPlaneConfig(layout)),
    ]);
    for (const id of ["etcd", "kube-apiserver"]) await this.#spawn(id);
    for (const { id } of registryHosts) await this.#spawn(id);
    await this.#spawn(tokenRealm.id);
    await this.#spawn("upstream");
    const [apiServer = 0, registry = 0] = await startForwarder(
      "forwarder",
      [
        { host: controlPlaneAddress, port: 6443 },
        { host: controlPlaneAddress, port: openRegistry.port },
      ],
      { layout, daemons: this.#daemons, ...scope },
    );
    await this.#save({ ports: { apiServer, registry } });
    await writeHostKubeconfig(layout, apiServer);
    const serving = group.run(() => this.#controlPlaneReady(scope));
    const pushed = group.run(async () => this.#pushFixtures(await images, scope));
    const created = group.run(() => this.#createNodes(nodes, scope));
    await serving;
    await this.#spawn("kube-controller-manager");
    await this.#spawn("kube-scheduler");
    const joined = group.run(async () => {
      await Promise.all((await created).map((node) => node.startDaemons(scope)));
      await this.#nodesReady(await created, scope);
      if (nodes > 0) await this.#spawn("kube-proxy"); // It waits 30 s for a Node that is not there.
    });
    await group.run(() => this.#startDns(scope));
    await group.run(() => this.#acceptsPods(scope));
    await Promise.all([joined, pushed]);
  }

  async #createNodes(count: number, { signal }: Scope): Promise<SandboxNode[]> {
    const indexes = Array.from({ length: count }, (_, offset) => this.#state.nextNode + offset);
    await allowInotify(this.#state.nodes.length + count);
    await this.#save({
      nodes: [...this.#state.nodes, ...indexes],
      nextNode: this.#state.nextNode + count,
    });
    const nodes = indexes.map((index) => this.#adopt(index));
    await Promise.all(
      nodes.map(async (node) => {
        await createNodeCgroup(node.layout.cgroup);
        await node.create({ signal });
      }),
    );
    return nodes;
  }

  #adopt(index: number): SandboxNode {
    const context: NodeContext = {
      layout: this.layout,
      programs: this.programs,
      daemons: this.#daemons,
    };
    const node = new SandboxNode(this.layout.node(index), context);
    this.#nodes.set(node.name, node);
    return node;
  }

  async #daemon(id: string): Promise<Daemon> {
    const { layout, programs } = this;
    const component = controlPlaneComponents.find((name) => name === id);
    if (component) return controlPlaneDaemon(component, layout, programs);
    const registry = registryHosts.find((host) => host.id === id);
    if (registry) return prepareRegistry(layout, registry, programs);
    if (id === tokenRealm.id) return realmDaemon(layout);
    if (id === "upstream") {
      await rm(layout.path("upstream.sock"), { force: true }); // A killed one leaves its socket.
      return upstreamDaemon(layout);
    }
    if (id === "kube-proxy") {
      const node = this.nodes[0]?.name ?? "";
      const flags = kubeProxyFlags(join(layout.pki, "proxy.kubeconfig"), node);
      return { id, argv: insideControlPlane(layout, [programs.file("kube-proxy"), ...flags]) };
    }
    if (id === "kwok") return prepareKwok(layout, programs);
    throw new RangeError(`Sandbox "${this.name}" has no component "${id}"`);
  }

  async #requireComponent(component: string): Promise<void> {
    const ids = (await this.components()).map(({ id }) => id);
    if (ids.includes(component)) return;
    throw new RangeError(`Component "${component}" must be one of: ${ids.join(", ")}`);
  }

  async #spawn(id: string): Promise<void> {
    await this.#daemons.spawn(await this.#daemon(id));
  }

  /**
   * Waits until the API server answers that it is ready. Components that gave up without it, or
   * without etcd, are started again, as a kubelet does with static pods.
   */
  async #controlPlaneReady({ signal }: Scope): Promise<void> {
    await waitFor(
      async () => {
        const crashed = await this.#daemons.crashed();
        for (const id of crashed) {
          if (!id.includes("/") && !isFixture(id)) await this.#spawn(id);
        }
        const { stdout } = await this.kubectl(["get", "--raw", "/readyz"], { signal });
        return stdout === "ok";
      },
      {
        what: "the API server to be ready",
        everyMs: 100,
        explain: () => this.logs("kube-apiserver", 15),
        signal,
      },
    );
  }

  async #nodesReady(nodes: readonly SandboxNode[], { signal }: Scope): Promise<void> {
    if (nodes.length === 0) return;
    const timeoutMs = 60_000 + nodes.length * startMsPerNode;
    const wait = ["wait", "--for=condition=Ready", `--timeout=${timeoutMs / 1_000}s`];
    const names = nodes.map(({ name }) => `node/${name}`);
    await waitFor(
      async () => {
        // It fails at once for a node that has not joined yet.
        const result = await this.kubectl(["get", ...names, "-o", "name"], { signal });
        return result.stdout.trim().split("\n").length === names.length;
      },
      {
        what: `${names.join(", ")} to join`,
        timeoutMs,
        everyMs: 100,
        explain: () => this.logs(`${nodes[0]?.name}/kubelet`, 15),
        signal,
      },
    );
    await this.kubectl([...wait, ...names], { timeoutMs: timeoutMs + 30_000, signal });
  }

  /** A pod is refused until the controller manager has made its namespace's service account. */
  async #acceptsPods({ signal }: Scope): Promise<void> {
    await waitFor(() => this.kubectl(["get", "serviceaccount", "default"], { signal }), {
      what: "the default service account",
      everyMs: 100,
      explain: () => this.logs("kube-controller-manager"),
      signal,
    });
  }

  async #startDns({ signal }: Scope): Promise<void> {
    const objects = dnsObjects(dnsAddress);
    const list = { apiVersion: "v1", kind: "List", items: objects };
    await this.kubectl(["apply", "-f", "-"], { input: JSON.stringify(list), signal });
    await this.#spawn("coredns");
  }

  async #pushFixtures(
    images: Awaited<ReturnType<typeof ensureFixtureImages>>,
    { signal }: Scope,
  ): Promise<void> {
    const address = `http://${controlPlaneAddress}:${openRegistry.backendPort}/v2/`;
    const crane = this.programs.file("crane");
    await waitFor(
      async () => {
        const argv = [crane, "catalog", "--insecure", new URL(address).host];
        const probe = insideControlPlane(this.layout, argv);
        return (await runToEnd(probe, { signal })).exitCode === 0;
      },
      { what: "the registry to answer", explain: () => this.logs(openRegistry.id), signal },
    );
    for (const { reference, folder, isIndex } of images) {
      await this.push(folder, reference, { isIndex, signal });
    }
  }

  async #save(change: Partial<SandboxState>): Promise<void> {
    this.#state = { ...this.#state, ...change };
    await writeState(this.layout, this.#state);
  }
}

/** What is part of the sandbox itself, not of its cluster: without it there is no way in. */
function isFixture(id: string): boolean {
  return id === "forwarder" || id.endsWith("/anchor");
}

async function refuseIfInUse(layout: Layout): Promise<void> {
  const owner = (await readState(layout))?.owner;
  if (!owner || !isAlive(owner)) return;
  throw new Error(`Sandbox "${layout.name}" is in use by process ${owner.pid}`);
}
