import { KubeClient } from "#kube/client.ts";
import { kubeconfigFile, type ClusterConfig } from "#kube/cluster-config.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import { silentLog } from "#telemetry/log.ts";
import { kubeConformance } from "./suite.ts";
import { until } from "./until.ts";
import { widgetDefinition } from "./widget.ts";

/** Programs may have to be built first. */
const startTimeoutMs = 20 * 60_000;

const actTimeoutMs = 60_000;

kubeConformance("a real API server", async () => {
  const sandbox = await Sandbox.start({ nodes: 0, signal: AbortSignal.timeout(startTimeoutMs) });
  const config = await kubeconfigFile(sandbox.kubeconfig);
  await defineWidgets(config);
  const kill = (): Promise<void> => sandbox.kill("kube-apiserver", soon());
  const start = (): Promise<void> => sandbox.start("kube-apiserver", soon());
  return {
    config,
    // It sends a bookmark about two seconds before a watch's time is up.
    quietWatchMs: 5_000,
    stop: () => sandbox.stop("kube-apiserver", soon()),
    start,
    kill,
    // What it remembers of changes begins with its process.
    async forget() {
      await kill();
      await start();
    },
    [Symbol.asyncDispose]: () => sandbox[Symbol.asyncDispose](),
  };
});

function soon(): { signal: AbortSignal } {
  return { signal: AbortSignal.timeout(actTimeoutMs) };
}

/** Has widgets served, and waits for the namespace that the tests use. */
async function defineWidgets(config: ClusterConfig): Promise<void> {
  const signal = AbortSignal.timeout(actTimeoutMs);
  await using client = new KubeClient({ config, log: silentLog, userAgent: "suite/1" });
  const { group, versions } = widgetDefinition.spec;
  const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
  const body = widgetDefinition;
  const { status } = await client.request({ method: "POST", path, body, signal });
  if (status !== 201) throw new Error(`Cannot define widgets: ${status}`);
  const isServed = async (path: string): Promise<boolean> =>
    (await client.request({ method: "GET", path, signal })).status === 200;
  const widgetsPath = `/apis/${group}/${versions[0]?.name}/widgets`;
  await until("widgets are served", () => isServed(widgetsPath), { signal });
  const isThere = (): Promise<boolean> => isServed("/api/v1/namespaces/default");
  await until("the namespace is there", isThere, { signal });
}
