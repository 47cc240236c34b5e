import { setTimeout as sleep } from "node:timers/promises";

import type { Image, ImageStatus } from "#api/v1/image.ts";
import { labelPrefix } from "#api/v1/labels.ts";
import type { NodeReport } from "#api/v1/node-report.ts";
import { images, nodeReports } from "#api/v1/resources.ts";
import type { KubeClient } from "#kube/client.ts";
import { nodes } from "#kube/resource.ts";
import { CommandError } from "#sandbox/command.ts";
import type { Sandbox } from "#sandbox/sandbox.ts";
import type { SandboxNode } from "#sandbox/sandbox-node.ts";
import { waitFor } from "#sandbox/wait.ts";

type Scope = { signal: AbortSignal };

/** What an end-to-end test asks of a cluster with Coral in it. */
export class Cluster {
  readonly sandbox: Sandbox;
  readonly client: KubeClient;

  constructor(sandbox: Sandbox, client: KubeClient) {
    this.sandbox = sandbox;
    this.client = client;
  }

  /** Applies an Image in the namespace `default` that wants `references`. */
  async want(
    name: string,
    references: readonly string[],
    { signal, ...spec }: Scope & { selector?: unknown; maxConcurrentNodes?: unknown },
  ): Promise<void> {
    const tags = Map.groupBy(references, repositoryOf);
    const repositories = [...tags].map(([repository, full]) => ({
      name: repository,
      tags: full.map((reference) => reference.slice(repository.length + 1)),
    }));
    await this.apply(
      {
        apiVersion: "stvz.io/v1",
        kind: "Image",
        metadata: { name, namespace: "default" },
        spec: { repositories, ...spec },
      },
      { signal },
    );
  }

  /**
   * Applies an object, again and again while the API server cannot reach the replica of the controller
   * that it chose: that of a node which was just lost stays a choice for the better part of a minute.
   */
  async apply(object: unknown, { signal }: Scope): Promise<void> {
    const attempt = async (): Promise<true | undefined> => {
      try {
        const input = JSON.stringify(object);
        await this.sandbox.kubectl(["apply", "-f", "-"], { input, signal });
        return true;
      } catch (error) {
        if (error instanceof CommandError && /failed calling webhook/.test(error.message)) {
          return undefined;
        }
        throw error;
      }
    };
    await waitFor(attempt, { what: "the webhook to be reached", everyMs: 100, signal });
  }

  async forget(name: string, { signal }: Scope): Promise<void> {
    await this.client.delete(images, { namespace: "default", name }, { signal });
  }

  async image(name: string, { signal }: Scope): Promise<Image | undefined> {
    return this.client.get(images, { namespace: "default", name }, { signal });
  }

  async report(node: string, { signal }: Scope): Promise<NodeReport | undefined> {
    return this.client.get(nodeReports, { name: node }, { signal });
  }

  /** Waits until an Image's status is as `isRight` wants it, and returns it. */
  async status(
    name: string,
    isRight: (status: ImageStatus) => boolean,
    { signal, timeoutMs = 90_000 }: Scope & { timeoutMs?: number },
  ): Promise<ImageStatus> {
    let last: Image | undefined;
    return waitFor(
      async () => {
        last = await this.image(name, { signal });
        const status = last?.status;
        if (!status || status.observedGeneration !== last?.metadata.generation) return undefined;
        return isRight(status) ? status : undefined;
      },
      {
        what: `the status of Image "${name}"`,
        everyMs: 200,
        timeoutMs,
        explain: () => JSON.stringify(last?.status, undefined, 1),
        signal,
      },
    );
  }

  /** Waits until an Image is Ready on exactly so many nodes. */
  async ready(
    name: string,
    totalNodes: number,
    options: Scope & { timeoutMs?: number },
  ): Promise<ImageStatus> {
    return this.status(
      name,
      (status) => isReady(status) && status.totalNodes === totalNodes,
      options,
    );
  }

  /** Coral's labels on a node, without their prefix. */
  async labels(node: string, { signal }: Scope): Promise<Record<string, string>> {
    const object = await this.client.get(nodes, { name: node }, { signal });
    const labels = Object.entries(object?.metadata.labels ?? {});
    const ours = labels.filter(([key]) => key.startsWith(labelPrefix));
    return Object.fromEntries(ours.map(([key, value]) => [key.slice(labelPrefix.length), value]));
  }

  /** Ends the agent on a node as a crash would; the kubelet starts it again. */
  async killAgent(node: SandboxNode, { signal }: Scope): Promise<void> {
    process.kill(await this.pidOf("agent", node, { signal }), "SIGKILL");
  }

  /** The process of a container of Coral's on a node, by the container's name. */
  async pidOf(container: string, node: SandboxNode, { signal }: Scope): Promise<number> {
    const ps = await node.crictl(["ps", "--name", `^${container}$`, "-q"], { signal });
    const inspect = ["inspect", "-o", "go-template", "--template", "{{.info.pid}}"];
    const { stdout } = await node.crictl([...inspect, ps.stdout.trim()], { signal });
    return Number(stdout.trim());
  }
}

/** Whether a status says Ready. */
export function isReady({ conditions }: ImageStatus): boolean {
  return conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;
}

/** Whether a node's runtime has an image under this name. */
export async function holds(
  node: SandboxNode,
  reference: string,
  { signal }: Scope,
): Promise<boolean> {
  const { stdout } = await node.crictl(["images", "-o", "json"], { signal });
  return stdout.includes(`"${reference}"`);
}

/** Lets time pass that the scenario is about: an outage of so many seconds. */
export async function outage(seconds: number, { signal }: Scope): Promise<void> {
  await sleep(seconds * 1000, undefined, { signal });
}

function repositoryOf(reference: string): string {
  return reference.slice(0, reference.lastIndexOf(":"));
}
