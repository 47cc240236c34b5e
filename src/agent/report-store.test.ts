import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { nodeReports } from "#api/v1/resources.ts";
import { KubeClient } from "#kube/client.ts";
import { silentLog } from "#telemetry/log.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { clusterReportStore } from "./report-store.ts";

const status = {
  images: [{ reference: "r.io/x:1", state: "pending", since: "2026-01-01T00:00:00Z" }],
  runtime: { name: "containerd", version: "v2.4.2" },
  agentVersion: "1.2.3",
  observedPlan: "abc",
} as const;

async function connect(
  stack: AsyncDisposableStack,
): Promise<{ client: KubeClient; server: FakeApiServer }> {
  const server = stack.use(await FakeApiServer.start({ resources: [nodeReports] }));
  const options = { config: server.config, log: silentLog, userAgent: "test" };
  return { server, client: stack.use(new KubeClient(options)) };
}

describe("clusterReportStore()", () => {
  test("creates the report, owned by its Node, and writes its status", async ({ signal }) => {
    await using stack = new AsyncDisposableStack();
    const store = clusterReportStore((await connect(stack)).client, "worker");

    await store.ensure("uid-1", { signal });
    const written = await store.writeStatus(status, { signal });

    const report = await store.read({ signal });
    assert.deepEqual(report?.metadata, written?.metadata);
    assert.deepEqual(report?.status, status);
    assert.deepEqual(report?.metadata.ownerReferences, [
      { apiVersion: "v1", kind: "Node", name: "worker", uid: "uid-1" },
    ]);
  });

  test("replaces the list of images, so that what is no longer owed goes", async ({ signal }) => {
    await using stack = new AsyncDisposableStack();
    const store = clusterReportStore((await connect(stack)).client, "worker");
    await store.ensure("uid-1", { signal });
    await store.writeStatus(status, { signal });
    await store.writeStatus({ ...status, images: [] }, { signal });

    assert.deepEqual((await store.read({ signal }))?.status?.images, []);
  });

  test("takes over a report that is there, and keeps its status", async ({ signal }) => {
    await using stack = new AsyncDisposableStack();
    const store = clusterReportStore((await connect(stack)).client, "worker");
    await store.ensure("uid-1", { signal });
    await store.writeStatus(status, { signal });
    const { metadata } = await store.ensure("uid-2", { signal });

    assert.equal(metadata.ownerReferences?.[0]?.uid, "uid-2");
    assert.deepEqual((await store.read({ signal }))?.status, status);
  });

  test("says so if there is no report to read or write to", async ({ signal }) => {
    await using stack = new AsyncDisposableStack();
    const store = clusterReportStore((await connect(stack)).client, "worker");

    assert.equal(await store.read({ signal }), undefined);
    assert.equal(await store.writeStatus(status, { signal }), undefined);
  });

  test("needs no rights but to get, create and patch", async ({ signal }) => {
    await using stack = new AsyncDisposableStack();
    const { client, server } = await connect(stack);
    const store = clusterReportStore(client, "worker");
    await store.read({ signal });
    await store.ensure("uid-1", { signal });
    await store.ensure("uid-2", { signal });
    await store.writeStatus(status, { signal });

    const verbs = server.requests.map(({ method, path }) => `${method} ${path.split("/").at(-1)}`);
    assert.deepEqual(verbs, [
      "GET worker",
      "POST nodereports",
      "POST nodereports",
      "PATCH worker",
      "PATCH status",
    ]);
  });
});
