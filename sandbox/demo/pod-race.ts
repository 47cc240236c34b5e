import type { Sandbox } from "#sandbox/sandbox.ts";

type Scope = { signal: AbortSignal };

/**
 * Starts a Deployment with one pod on each node and measures until all run.
 *
 * @returns seconds from the moment before it is applied.
 */
export async function secondsToRunning(
  sandbox: Sandbox,
  name: string,
  image: string,
  { signal }: Scope,
): Promise<number> {
  const labels = { app: name };
  const spread = {
    maxSkew: 1,
    topologyKey: "kubernetes.io/hostname",
    whenUnsatisfiable: "DoNotSchedule",
    labelSelector: { matchLabels: labels },
  };
  const deployment = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name, namespace: "demo" },
    spec: {
      replicas: sandbox.nodes.length,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          terminationGracePeriodSeconds: 1,
          topologySpreadConstraints: [spread],
          containers: [{ name: "server", image, imagePullPolicy: "IfNotPresent" }],
        },
      },
    },
  };
  const start = performance.now();
  await sandbox.kubectl(["apply", "-f", "-"], { input: JSON.stringify(deployment), signal });
  const status = ["-n", "demo", "rollout", "status", `deployment/${name}`, "--timeout=120s"];
  await sandbox.kubectl(status, { timeoutMs: 130_000, signal });
  return (performance.now() - start) / 1000;
}
