import { runAnnotation, type Mirror, type MirrorStatus } from "#api/v1/mirror.ts";
import type { MirrorShard } from "#api/v1/mirror-shard.ts";
import { mirrors, mirrorShards } from "#api/v1/resources.ts";
import { systemClock } from "#async/clock.ts";
import { isJsonObject } from "#json/json.ts";
import type { KubeClient } from "#kube/client.ts";
import { BlobPool } from "#mirror/blob-pool.ts";
import { RepositoryCopy } from "#mirror/copy.ts";
import { RegistryClient } from "#remote/registry-client.ts";
import { controlPlaneAddress } from "#sandbox/layout.ts";
import { openRegistry, privateRegistry } from "#sandbox/registry-hosts.ts";
import type { SandboxNode } from "#sandbox/sandbox-node.ts";
import type { Sandbox } from "#sandbox/sandbox.ts";
import type { RequestRecord } from "#sandbox/upstream/fault.ts";
import { waitFor } from "#sandbox/wait.ts";
import { silentLog } from "#telemetry/log.ts";
import { Cluster } from "./cluster.ts";
import type { FakeRepository } from "./fake-repository.ts";

type Scope = { signal: AbortSignal };

/** The namespace of all Mirrors of a test. */
export const team = "team";

/** What an end-to-end test of Mirrors asks of a cluster with Coral in it. */
export class MirrorCluster implements AsyncDisposable {
  readonly sandbox: Sandbox;
  readonly cluster: Cluster;
  /** Of the open registry, through the sandbox's port on this machine. */
  readonly host: string;
  readonly #registry: RegistryClient;

  private constructor(sandbox: Sandbox, client: KubeClient) {
    this.sandbox = sandbox;
    this.cluster = new Cluster(sandbox, client);
    this.host = `127.0.0.1:${sandbox.ports.registry}`;
    this.#registry = new RegistryClient({
      userAgent: "coral-test",
      log: silentLog,
      clock: systemClock,
      network: { allows: () => true },
      plainHttp: [this.host],
    });
  }

  static async of(sandbox: Sandbox): Promise<MirrorCluster> {
    return new MirrorCluster(sandbox, await sandbox.connect());
  }

  /** Serves tags of what a test has in memory from the open registry. */
  async serve(
    source: FakeRepository,
    path: string,
    tags: readonly string[],
    { signal }: Scope,
  ): Promise<void> {
    const repository = this.#registry.repository(`${this.host}/${path}`, {
      logins: [],
      actions: "pull,push",
    });
    const target = { repository, path };
    const copy = new RepositoryCopy({ source, target, blobs: new BlobPool({ signal }), signal });
    for (const tag of tags) {
      const result = await copy.copyTag(tag);
      if (result.outcome === "failed")
        throw new Error(`Cannot serve it: ${JSON.stringify(result)}`);
    }
  }

  /** What a tag names in a repository of the open registry. */
  async digestOf(path: string, tag: string, { signal }: Scope): Promise<string | undefined> {
    const repository = this.#registry.repository(`${this.host}/${path}`, { logins: [] });
    return (await repository.find(tag, { signal }))?.digest;
  }

  /** Applies a Mirror to the open registry, without TLS. */
  async mirror(
    name: string,
    spec: Readonly<Record<string, unknown>>,
    { signal, annotations = {} }: Scope & { annotations?: Readonly<Record<string, string>> },
  ): Promise<void> {
    const metadata = { namespace: team, name, annotations };
    const common = { registry: `${openRegistry.host}/copies`, tls: { plainHTTP: true } };
    await this.cluster.apply(
      { apiVersion: "stvz.io/v1", kind: "Mirror", metadata, spec: { ...common, ...spec } },
      { signal },
    );
  }

  /** Waits until a Mirror's status, of its present spec, is as `isRight` wants it. */
  async statusIs(
    name: string,
    isRight: (status: MirrorStatus) => boolean,
    { signal, timeoutMs = 90_000 }: Scope & { timeoutMs?: number },
  ): Promise<MirrorStatus> {
    let last: Mirror | undefined;
    return waitFor(
      async () => {
        last = await this.cluster.client.get(mirrors, { namespace: team, name }, { signal });
        const status = last?.status;
        if (!status || status.observedGeneration !== last?.metadata.generation) return undefined;
        return isRight(status) ? status : undefined;
      },
      {
        what: `the status of Mirror "${name}"`,
        everyMs: 200,
        timeoutMs,
        explain: async () => {
          const shards = await this.shards(name, { signal });
          const statuses = [last?.status, ...shards.map(({ status }) => status)];
          return JSON.stringify(statuses, undefined, 1);
        },
        signal,
      },
    );
  }

  /** Asks a Mirror for a run, and waits until all of it has been looked at. */
  async runNow(name: string, value: string, { signal }: Scope): Promise<void> {
    const annotation = `${runAnnotation}=${value}`;
    const argv = ["-n", team, "annotate", "--overwrite", "mirror", name, annotation];
    await this.sandbox.kubectl(argv, { signal });
    await waitFor(
      async () => {
        const shards = await this.shards(name, { signal });
        const isDone = shards.every(
          ({ status }) => status?.observedRun === value && status.worker === undefined,
        );
        return (shards.length > 0 && isDone) || undefined;
      },
      { what: `the run "${value}" of Mirror "${name}"`, timeoutMs: 90_000, signal },
    );
  }

  /** Waits for an event about a Mirror. */
  async eventIs(
    name: string,
    isRight: (event: { type: string; reason: string; message: string }) => boolean,
    { signal }: Scope,
  ): Promise<void> {
    const argv = ["-n", team, "get", "events", "-o", "json"];
    let last = "";
    await waitFor(
      async () => {
        last = (await this.sandbox.kubectl(argv, { signal })).stdout;
        const list: unknown = JSON.parse(last);
        const items: unknown[] =
          isJsonObject(list) && Array.isArray(list["items"]) ? list["items"] : [];
        return (
          items.some((item) => {
            if (!isJsonObject(item) || !isJsonObject(item["involvedObject"])) return false;
            const { kind, name: of } = item["involvedObject"];
            if (kind !== "Mirror" || of !== name) return false;
            const [type = "", reason = "", message = ""] = ["type", "reason", "message"].map(
              (key) => {
                const value = item[key];
                return typeof value === "string" ? value : "";
              },
            );
            return isRight({ type, reason, message });
          }) || undefined
        );
      },
      { what: `an event of Mirror "${name}"`, timeoutMs: 60_000, explain: () => last, signal },
    );
  }

  /** The shards of a Mirror. */
  async shards(name: string, { signal }: Scope): Promise<MirrorShard[]> {
    const { client } = this.cluster;
    const { items } = await client.list(mirrorShards, { namespace: team, signal });
    return items.filter(({ spec }) => spec.mirror === name);
  }

  /** What pods asked registries for since the last {@link Upstream.forgetRequests}. */
  async requests({ signal }: Scope): Promise<RequestRecord[]> {
    const requests = await this.sandbox.upstream.requests({ signal });
    return requests.filter(({ from }) => from !== controlPlaneAddress);
  }

  /** Ends the worker on a node as a crash would. */
  async killWorker(node: SandboxNode, { signal }: Scope): Promise<void> {
    process.kill(await this.cluster.pidOf("mirror", node, { signal }), "SIGKILL");
  }

  async scaleWorkers(count: number, { signal }: Scope): Promise<void> {
    const argv = ["-n", "coral-system", "scale", "deploy/coral-mirror", `--replicas=${count}`];
    await this.sandbox.kubectl(argv, { signal });
    await this.workersReady(count, { signal });
  }

  /** Waits until so many workers are ready. */
  async workersReady(count: number, { signal }: Scope): Promise<void> {
    const argv = [
      "-n",
      "coral-system",
      "get",
      "deploy/coral-mirror",
      "-o",
      "jsonpath={.status.readyReplicas}",
    ];
    await waitFor(
      async () =>
        Number((await this.sandbox.kubectl(argv, { signal })).stdout) === count || undefined,
      { what: `${count} workers to be ready`, timeoutMs: 90_000, signal },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#registry[Symbol.asyncDispose]();
    await this.cluster.client[Symbol.asyncDispose]();
  }
}

/** Whether a status says that everything is there. */
export function isSynced({ conditions }: MirrorStatus): boolean {
  return conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;
}

/** Where programs that run beside the registries find them, past the proxy. */
export const besideAddress = {
  open: `${controlPlaneAddress}:${openRegistry.backendPort}`,
  private: `${controlPlaneAddress}:${privateRegistry.backendPort}`,
};
