import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { mirrorShards } from "#api/v1/resources.ts";
import { KubeClient, type RawRequest } from "#kube/client.ts";
import { installCoral } from "#sandbox/install-coral.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import { silentLog } from "#telemetry/log.ts";
import { waitFor } from "#sandbox/wait.ts";
import { aMirrorShard } from "#test/mirror-shards.ts";
import { aMirror } from "#test/mirrors.ts";

const report = (line: string): void => console.error(line);
const namespace = "coral-system";
const hash = "0123456789abcdef0123456789abcdef";

describe("what a stolen token can do", { timeout: 10 * 60_000 }, () => {
  const signal = AbortSignal.timeout(60 * 60_000);
  const scope = { signal };
  let sandbox: Sandbox;

  before(async () => {
    sandbox = await Sandbox.start({ nodes: 2, report, signal });
    await installCoral(sandbox, scope);
    const reports = ["get", "nodereports", "node1", "node2"];
    await waitFor(() => sandbox.kubectl(reports, scope), { what: "the agents' reports", signal });
  });
  after(() => sandbox[Symbol.asyncDispose]());

  /** A client with the token of the agent's pod on a node, and nothing of the administrator's. */
  async function agentOf(node: string): Promise<KubeClient> {
    const selector = "app.kubernetes.io/component=agent";
    const query = ["-n", namespace, "get", "pods", "-l", selector];
    const field = ["--field-selector", `spec.nodeName=${node}`, "-o", "name"];
    const pod = (await sandbox.kubectl([...query, ...field], scope)).stdout.trim().split("/")[1];
    const bound = ["--bound-object-kind", "Pod", "--bound-object-name", pod ?? ""];
    return clientWith(["coral-agent", ...bound]);
  }

  async function clientWith(tokenArguments: readonly string[]): Promise<KubeClient> {
    const create = ["-n", namespace, "create", "token", ...tokenArguments];
    const token = (await sandbox.kubectl(create, scope)).stdout.trim();
    const { server, ca } = await sandbox.clusterConfig();
    const config = { server, ...(ca && { ca }), token: () => Promise.resolve(token) };
    return new KubeClient({ config, log: silentLog, userAgent: "thief" });
  }

  async function ask(client: KubeClient, request: Omit<RawRequest, "signal">): Promise<string> {
    const { status, body } = await client.request({ ...request, signal });
    return `${status} ${JSON.stringify(body)}`;
  }

  const reports = "/apis/stvz.io/v1/nodereports";
  const mirrors = "/apis/stvz.io/v1/namespaces/default/mirrors";
  const shards = "/apis/stvz.io/v1/namespaces/default/mirrorshards";
  const leases = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;
  const shardStatus = { tags: 1, synced: 1, pending: 0, failed: 0, throttled: 0, bytesCopied: 0 };
  const merge = { method: "PATCH", contentType: "application/merge-patch+json" } as const;
  const status = {
    images: [],
    runtime: { name: "x", version: "1" },
    agentVersion: "1",
    observedPlan: "forged",
  };

  test("an agent's: write the report of its own node, and no other's", async () => {
    await using thief = await agentOf("node1");
    const write = (node: string): Promise<string> =>
      ask(thief, { ...merge, path: `${reports}/${node}/status`, body: { status } });

    assert.match(await write("node1"), /^200 /);
    assert.match(await write("node2"), /the NodeReport of its own node only, not that of node2/);
    const metadata = { name: "node9" };
    const body = { apiVersion: "stvz.io/v1", kind: "NodeReport", metadata };
    assert.match(
      await ask(thief, { method: "POST", path: reports, body }),
      /the NodeReport of its own node only/,
    );
  });

  test("an agent's: not give its report another owner, or finalizers", async () => {
    await using thief = await agentOf("node1");
    const patch = (metadata: unknown): Promise<string> =>
      ask(thief, { ...merge, path: `${reports}/node1`, body: { metadata } });
    const owner = { apiVersion: "v1", kind: "Node", name: "node2", uid: "1" };

    assert.match(await patch({ ownerReferences: [owner] }), /may be owned by its Node only/);
    assert.match(await patch({ finalizers: ["example.com/stuck"] }), /may not put finalizers/);
  });

  test("an agent's: read no Secret, no Image and no pod, write no Node and no ImagePlan", async () => {
    await using thief = await agentOf("node1");
    const body = { metadata: { labels: { [`image.stvz.io/${hash}`]: "available" } } };
    const attempts: Omit<RawRequest, "signal">[] = [
      { method: "GET", path: "/api/v1/secrets" },
      { method: "GET", path: `/api/v1/namespaces/${namespace}/secrets` },
      { method: "GET", path: "/apis/stvz.io/v1/images" },
      { method: "GET", path: "/api/v1/pods" },
      { ...merge, path: "/api/v1/nodes/node1", body },
      { method: "DELETE", path: `${reports}/node1` },
      { method: "DELETE", path: "/apis/stvz.io/v1/namespaces/default/imageplans/x" },
      { method: "POST", path: "/apis/stvz.io/v1/namespaces/default/imageplans", body: {} },
      {
        method: "POST",
        path: `/api/v1/namespaces/${namespace}/serviceaccounts/coral-agent/token`,
        body: {},
      },
    ];
    for (const attempt of attempts) {
      assert.match(await ask(thief, attempt), /^403 /, `${attempt.method} ${attempt.path}`);
    }
  });

  test("an agent's that is bound to no pod: write no report at all", async () => {
    await using thief = await clientWith(["coral-agent"]);
    const write = { ...merge, path: `${reports}/node1/status`, body: { status } };
    assert.match(await ask(thief, write), /the NodeReport of its own node only/);
  });

  test("the controller's: change image labels of a Node, and nothing else of it", async () => {
    await using thief = await clientWith(["coral-controller"]);
    const patch = (body: unknown, path = "/api/v1/nodes/node1"): Promise<string> =>
      ask(thief, { ...merge, path, body });

    assert.match(
      await patch({ metadata: { labels: { [`image.stvz.io/${hash}`]: "x" } } }),
      /^200 /,
    );
    assert.match(
      await patch({ metadata: { labels: { [`image.stvz.io/${hash}`]: null } } }),
      /^200 /,
    );
    for (const labels of [
      { "node-role.kubernetes.io/control-plane": "" },
      { "kubernetes.io/os": null },
      { "image.stvz.io/short": "1" },
      { [`image.stvz.io/${hash.toUpperCase()}`]: "1" },
    ]) {
      assert.match(await patch({ metadata: { labels } }), /may change no labels of a Node but/);
    }
    for (const body of [
      { spec: { unschedulable: true } },
      { spec: { taints: [{ key: "x", effect: "NoExecute" }] } },
      { metadata: { annotations: { x: "1" } } },
      { metadata: { finalizers: ["example.com/stuck"] } },
    ]) {
      assert.match(await patch(body), /may change nothing of a Node but its image labels/);
    }
    assert.match(await patch({ status: { phase: "x" } }, "/api/v1/nodes/node1/status"), /^403 /);
  });

  // It reads Secrets: which ones Images name, RBAC cannot say. It changes none but its own.
  test("the controller's: change no Secret but its own, make no token, delete nothing", async () => {
    await using thief = await clientWith(["coral-controller"]);
    const secret = { metadata: { name: "x" }, data: {} };
    const attempts: Omit<RawRequest, "signal">[] = [
      { method: "POST", path: "/api/v1/namespaces/default/secrets", body: secret },
      { ...merge, path: `/api/v1/namespaces/${namespace}/secrets/x`, body: secret },
      { method: "DELETE", path: `/api/v1/namespaces/${namespace}/secrets/coral-tls` },
      { method: "DELETE", path: `/api/v1/namespaces/${namespace}/pods/x` },
      { method: "DELETE", path: "/api/v1/nodes/node1" },
      { ...merge, path: `${mirrors}/x`, body: { spec: { suspend: true } } },
      { method: "DELETE", path: `${mirrors}/x` },
      { ...merge, path: `${shards}/x/status`, body: { status: shardStatus } },
      { method: "GET", path: "/api/v1/namespaces/default" },
      {
        method: "POST",
        path: `/api/v1/namespaces/${namespace}/serviceaccounts/coral-agent/token`,
        body: {},
      },
      {
        method: "POST",
        path: `/api/v1/namespaces/${namespace}/serviceaccounts/coral-mirror/token`,
        body: {},
      },
    ];
    for (const attempt of attempts) {
      assert.match(await ask(thief, attempt), /^403 /, `${attempt.method} ${attempt.path}`);
    }
  });

  test("a mirror worker's: write the Leases of workers, and not the one by which a controller leads", async () => {
    await using thief = await clientWith(["coral-mirror"]);
    const post = (name: string, more: object = {}): Promise<string> => {
      const metadata = { name, ...more };
      const body = { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata };
      return ask(thief, { method: "POST", path: leases, body: { ...body, spec: {} } });
    };
    const leading = `${leases}/coral-controller`;
    const { body } = await thief.request({ method: "GET", path: leading, signal });

    assert.match(await post("coral-mirror-thief"), /^201 /);
    assert.match(
      await ask(thief, { method: "DELETE", path: `${leases}/coral-mirror-thief` }),
      /^200 /,
    );
    const refusal = /^403 .*may write the Leases of workers only, not coral-controller/;
    assert.match(await ask(thief, { method: "PUT", path: leading, body }), refusal);
    assert.match(await ask(thief, { method: "DELETE", path: leading }), refusal);
    const stuck = await post("coral-mirror-thief", { finalizers: ["example.com/stuck"] });
    assert.match(stuck, /^403 .*may not put finalizers on a Lease/);
    assert.match(await post("thief"), /^403 .*may write the Leases of workers only, not thief/);
  });

  test("a mirror worker's: write the status of a shard, and nothing else of it", async () => {
    await using administrator = await sandbox.connect();
    await using thief = await clientWith(["coral-mirror"]);
    const { spec } = aMirror({ suspend: true });
    const body = { apiVersion: "stvz.io/v1", kind: "Mirror", metadata: { name: "victim" }, spec };
    assert.match(await ask(administrator, { method: "POST", path: mirrors, body }), /^201 /);
    const shard = await waitFor(
      async () => (await administrator.list(mirrorShards, scope)).items[0],
      {
        what: "the shard of a Mirror",
        signal,
      },
    );
    const { name, resourceVersion } = shard.metadata;
    const forged = {
      ...shard,
      metadata: { name, resourceVersion, finalizers: ["example.com/stuck"], labels: { x: "1" } },
      spec: { ...shard.spec, target: "evil.test/x", pushSecret: { name: "stolen" } },
      status: shardStatus,
    };
    const path = `${shards}/${name}`;
    const answer = await thief.request({
      method: "PUT",
      path: `${path}/status`,
      body: forged,
      signal,
    });

    assert.equal(answer.status, 200);
    const written = mirrorShards.parse(answer.body);
    assert.deepEqual(written.spec, shard.spec);
    assert.deepEqual(written.metadata.ownerReferences, shard.metadata.ownerReferences);
    assert.partialDeepStrictEqual(written.status, shardStatus);
    assert.doesNotMatch(JSON.stringify(answer.body), /stuck|"x":"1"/);
    assert.match(await ask(thief, { method: "PUT", path, body: forged }), /^403 /);
    assert.match(
      await ask(administrator, { method: "DELETE", path: `${mirrors}/victim` }),
      /^200 /,
    );
  });

  // It reads Secrets, by list and watch: which ones Mirrors name, RBAC cannot say.
  test("a mirror worker's: write no Mirror and no shard, change no Secret, read no pod and no Image", async () => {
    await using thief = await clientWith(["coral-mirror"]);
    const secret = { metadata: { name: "x" }, data: {} };
    const { spec } = aMirrorShard();
    const attempts: Omit<RawRequest, "signal">[] = [
      { method: "GET", path: "/apis/stvz.io/v1/mirrors" },
      { ...merge, path: `${mirrors}/x`, body: { spec: { suspend: true } } },
      { ...merge, path: `${mirrors}/x/status`, body: { status: {} } },
      { method: "DELETE", path: `${mirrors}/x` },
      { method: "POST", path: shards, body: { metadata: { name: "x" }, spec } },
      { ...merge, path: `${shards}/x`, body: { spec: { target: "evil.test/x" } } },
      { method: "DELETE", path: `${shards}/x` },
      { method: "DELETE", path: leases },
      { method: "GET", path: "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases" },
      { method: "GET", path: "/apis/stvz.io/v1/namespaces/default/registrybudgets" },
      { method: "GET", path: `/api/v1/namespaces/${namespace}/secrets/coral-tls` },
      { method: "POST", path: "/api/v1/namespaces/default/secrets", body: secret },
      { ...merge, path: `/api/v1/namespaces/${namespace}/secrets/coral-tls`, body: secret },
      { method: "GET", path: `/api/v1/namespaces/${namespace}/configmaps` },
      { method: "GET", path: "/api/v1/pods" },
      { method: "GET", path: `/api/v1/namespaces/${namespace}/pods` },
      { method: "GET", path: "/apis/apps/v1/deployments" },
      { method: "GET", path: "/api/v1/nodes" },
      { method: "GET", path: "/api/v1/namespaces/kube-system" },
      { method: "GET", path: "/apis/stvz.io/v1/images" },
      { method: "GET", path: "/apis/stvz.io/v1/imageplans" },
      { method: "GET", path: reports },
      { method: "POST", path: "/apis/events.k8s.io/v1/namespaces/default/events", body: {} },
      {
        method: "POST",
        path: `/api/v1/namespaces/${namespace}/serviceaccounts/coral-controller/token`,
        body: {},
      },
    ];
    for (const attempt of attempts) {
      assert.match(await ask(thief, attempt), /^403 /, `${attempt.method} ${attempt.path}`);
    }
  });
});
