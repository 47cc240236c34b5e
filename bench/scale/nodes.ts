import type { KubeClient } from "#kube/client.ts";
import { isJsonObject } from "#json/json.ts";
import type { Pod } from "#kube/types.ts";
import { coralNamespace } from "#sandbox/control-plane.ts";
import { kwokAnnotation } from "#sandbox/kwok.ts";
import { inParallel } from "./in-parallel.ts";
import type { AgentSeat } from "./messages.ts";

type Scope = { signal: AbortSignal };

/** Label of the simulated nodes, by which Images select them. */
export const simulatedLabel = "bench.coral.test/simulated";

const nodePrefix = "sim-";

/** Requests at the same time, over one connection. */
const parallel = 32;

/** Longer than any run. */
const tokenSeconds = 4 * 60 * 60;

export function nodeNames(count: number): string[] {
  return Array.from({ length: count }, (_, index) => nodePrefix + String(index).padStart(5, "0"));
}

/** Makes Nodes that KWOK keeps alive. Only pods that tolerate every taint come onto them. */
export async function createNodes(
  client: KubeClient,
  names: readonly string[],
  { nodeImages, signal }: Scope & { nodeImages: number },
): Promise<void> {
  const create = async (name: string): Promise<void> => {
    const body = nodeObject(name, nodeImages);
    const answer = await client.request({ method: "POST", path: "/api/v1/nodes", body, signal });
    if (answer.status !== 201) throw new Error(`Node "${name}" was answered with ${answer.status}`);
  };
  await inParallel(names, parallel, create, { signal });
}

function nodeObject(name: string, nodeImages: number): unknown {
  const now = new Date().toISOString();
  const condition = (type: string, status: string): unknown => ({
    type,
    status,
    reason: "Simulated",
    message: "as KWOK has it",
    lastHeartbeatTime: now,
    lastTransitionTime: now,
  });
  const pressures = ["MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];
  const resources = { cpu: "16", memory: "64Gi", pods: "110", "ephemeral-storage": "200Gi" };
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: {
      name,
      annotations: kwokAnnotation,
      labels: {
        [simulatedLabel]: "true",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": "simulated.large",
        "topology.kubernetes.io/region": "test-1",
        "topology.kubernetes.io/zone": "test-1a",
      },
    },
    spec: { taints: [{ key: "kwok.x-k8s.io/node", value: "fake", effect: "NoSchedule" }] },
    status: {
      capacity: resources,
      allocatable: resources,
      conditions: [
        ...pressures.map((type) => condition(type, "False")),
        condition("Ready", "True"),
      ],
      addresses: [
        { type: "InternalIP", address: "127.0.0.1" },
        { type: "Hostname", address: name },
      ],
      nodeInfo: {
        architecture: "amd64",
        operatingSystem: "linux",
        osImage: "Simulated Linux 1",
        kernelVersion: "6.18.0",
        containerRuntimeVersion: "containerd://2.4.2",
        kubeletVersion: "v1.37.2",
        kubeProxyVersion: "v1.37.2",
        machineID: "",
        systemUUID: "",
        bootID: "",
      },
      images: Array.from({ length: nodeImages }, (_, index) => imageOnNode(index)),
    },
  };
}

/** As a kubelet tells of an image: by digest and by tag. */
function imageOnNode(index: number): unknown {
  const name = `registry.example.com/team-${index % 7}/service-${index}`;
  const digest = String(index).padStart(64, "0");
  return { names: [`${name}@sha256:${digest}`, `${name}:v1.2.${index}`], sizeBytes: 87_654_321 };
}

/** An agent's pod on a simulated node, if it is Ready and stays. */
export function readyAgentOn({ metadata, spec, status }: Pod): string | undefined {
  const node = spec?.nodeName;
  if (!node?.startsWith(nodePrefix) || metadata.deletionTimestamp !== undefined) return undefined;
  const ready = status?.conditions?.some(
    ({ type, status: is }) => type === "Ready" && is === "True",
  );
  return ready ? node : undefined;
}

/** Gets for each pod the tokens that its kubelet would: bound to the pod, and so to its node. */
export async function seatsOf(
  client: KubeClient,
  pods: readonly Pod[],
  { signal }: Scope,
): Promise<AgentSeat[]> {
  const path = `/api/v1/namespaces/${coralNamespace}/serviceaccounts/coral-agent/token`;
  const tokenOf = async (
    { metadata: { name, uid } }: Pod,
    audiences: string[],
  ): Promise<string> => {
    const body = {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: {
        audiences,
        expirationSeconds: tokenSeconds,
        boundObjectRef: { apiVersion: "v1", kind: "Pod", name, uid },
      },
    };
    return tokenIn((await client.request({ method: "POST", path, body, signal })).body);
  };
  const seat = async (pod: Pod): Promise<AgentSeat> => ({
    node: pod.spec?.nodeName ?? "",
    token: await tokenOf(pod, []),
    controllerToken: await tokenOf(pod, ["coral"]),
  });
  return inParallel(pods, parallel, seat, { signal });
}

/** Deletes pods as a restarted node's are: their DaemonSet makes others. */
export async function deletePods(
  client: KubeClient,
  pods: readonly Pod[],
  { signal }: Scope,
): Promise<void> {
  const remove = async ({ metadata: { name } }: Pod): Promise<void> => {
    const path = `/api/v1/namespaces/${coralNamespace}/pods/${name}`;
    const body = { apiVersion: "v1", kind: "DeleteOptions", gracePeriodSeconds: 0 };
    await client.request({ method: "DELETE", path, body, signal });
  };
  await inParallel(pods, parallel, remove, { signal });
}

function tokenIn(body: unknown): string {
  const status = isJsonObject(body) ? body["status"] : undefined;
  const token = isJsonObject(status) ? status["token"] : undefined;
  if (typeof token === "string") return token;
  throw new TypeError("A TokenRequest must be answered with a token");
}
