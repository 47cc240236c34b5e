import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { describe, test } from "node:test";

import { FakeApiServer } from "#test/fake-api-server.ts";
import { jsonLog, silentLog } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import { KubeClient, type KubeClientOptions } from "./client.ts";
import { leases, metadataOf, nodes } from "./resource.ts";

const everything = (): boolean => true;
const readToken = (): Promise<string> => Promise.resolve("secret-token");

function clientOf(server: FakeApiServer, options: Partial<KubeClientOptions> = {}): KubeClient {
  return new KubeClient({ config: server.config, log: silentLog, userAgent: "test/1", ...options });
}

describe("KubeClient", () => {
  test("keeps one connection for all requests, and opens another after a loss", async ({
    signal,
  }) => {
    await using server = await FakeApiServer.start();
    await using client = clientOf(server);
    await Promise.all(Array.from({ length: 20 }, () => client.list(nodes, { signal })));
    assert.equal(server.connections, 1);

    server.dropConnections();
    await client.list(nodes, { signal });
    assert.equal(server.connections, 2);
  });

  test("reads long lists in pages", async ({ signal }) => {
    await using server = await FakeApiServer.start();
    await using client = clientOf(server);
    for (let index = 0; index < 1_100; index++) {
      server.create(nodes, { metadata: { name: `node-${index}` } });
    }
    const { items, resourceVersion } = await client.list(nodes, { signal });

    assert.equal(new Set(items.map(({ metadata }) => metadata.name)).size, 1_100);
    assert.equal(resourceVersion, "1101");
    assert.deepEqual(
      server.requests.map(({ query }) => query["limit"]),
      ["500", "500", "500"],
    );
  });

  test("reads metadata, among all else, from a server that cannot send it alone", async ({
    signal,
  }) => {
    await using server = await FakeApiServer.start();
    await using client = clientOf(server);
    server.hasMetadataViews = false;
    server.create(nodes, { metadata: { name: "a" } });
    const node = await client.get(metadataOf(nodes), { name: "a" }, { signal });
    const { items } = await client.list(metadataOf(nodes), { signal });

    assert.deepEqual([node?.metadata.name, items.length], ["a", 1]);
  });

  test("begins a list anew whose pages expire", async ({ signal }) => {
    await using server = await FakeApiServer.start();
    await using client = clientOf(server);
    for (let index = 0; index < 600; index++) {
      server.create(nodes, { metadata: { name: `node-${index}` } });
    }
    server.fail({ status: 410, matching: ({ query }) => query["continue"] !== undefined });

    const { items } = await client.list(nodes, { signal });
    assert.equal(items.length, 600);
  });

  test("finishes what is in hand when the server goes away, and asks the next one", async ({
    signal,
  }) => {
    await using server = await FakeApiServer.start();
    await using client = clientOf(server);
    const watch = client.watch(nodes, { query: {}, timeoutMs: 10_000, signal });
    const first = watch.next();
    server.create(nodes, { metadata: { name: "a" } });
    await first;

    server.goAway();
    await client.list(nodes, { signal });
    server.create(nodes, { metadata: { name: "b" } });
    assert.equal((await watch.next()).value.type, "ADDED");
    assert.equal(server.connections, 2);
    await watch.return(undefined);
  });

  test("sends again what the server refused unseen, writes too", async ({ signal }) => {
    await using server = await FakeApiServer.start();
    await using client = clientOf(server);
    server.refuseStreams(2);
    await client.create(nodes, { metadata: { name: "a" } }, { signal });
    assert.equal(server.list(nodes).length, 1);

    server.refuseStreams(3);
    const third = client.create(nodes, { metadata: { name: "b" } }, { signal });
    await assert.rejects(third, { code: "API_UNREACHABLE", retryable: true });
  });

  test("waits for an answer as long as it was told", async ({ signal }) => {
    await using server = await FakeApiServer.start();
    await using client = clientOf(server);
    server.ignore(everything);

    const asking = client.request({ method: "GET", path: "/api/v1/nodes", timeoutMs: 50, signal });
    await assert.rejects(asking, {
      name: "ApiUnreachableError",
      message: `Cannot GET "/api/v1/nodes": no answer within 50 ms`,
    });
  });

  test("rejects with the signal's reason when aborted", async () => {
    await using server = await FakeApiServer.start();
    await using client = clientOf(server);
    server.ignore(everything);
    const reason = new Error("enough");
    const stop = new AbortController();

    const asking = client.get(nodes, { name: "a" }, { signal: stop.signal });
    stop.abort(reason);
    await assert.rejects(asking, reason);
  });

  test("gives up on a server that accepts and says nothing", async ({ signal }) => {
    const server = createServer((socket) => socket.resume()).listen(0, "127.0.0.1");
    await once(server, "listening");
    await using _ = server;
    const address = server.address();
    const port = typeof address === "object" ? address?.port : undefined;
    await using client = new KubeClient({
      config: { server: new URL(`https://127.0.0.1:${port}`) },
      log: silentLog,
      userAgent: "test/1",
      timing: { connectTimeoutMs: 50 },
    });

    const asking = client.get(nodes, { name: "a" }, { signal });
    await assert.rejects(asking, {
      message: `Cannot GET "/api/v1/nodes/a": no connection within 50 ms`,
    });
  });

  test("tells a busy server's wish for patience", async ({ signal }) => {
    await using server = await FakeApiServer.start();
    await using client = clientOf(server);
    server.fail({ status: 429, retryAfterSeconds: 3 });

    const asking = client.get(nodes, { name: "a" }, { signal });
    await assert.rejects(asking, { status: 429, retryable: true, retryAfterMs: 3_000 });
  });

  test("sends its token, and shows it to nobody", async ({ signal }) => {
    await using server = await FakeApiServer.start();
    const lines: string[] = [];
    const log = jsonLog({ level: "debug", write: (line) => lines.push(line) });
    await using client = clientOf(server, { config: { ...server.config, token: readToken }, log });
    server.fail({ status: 500 });

    const asking = client.get(nodes, { name: "a" }, { signal });
    await assert.rejects(asking, (error) => {
      log.error("failed", { error });
      return true;
    });
    assert.equal(server.requests[0]?.headers["authorization"], "Bearer secret-token");
    assert.equal(lines.join("").includes("secret-token"), false);
  });

  test("counts requests by what they do and what came of it", async ({ signal }) => {
    await using server = await FakeApiServer.start();
    const metrics = new Registry();
    await using client = clientOf(server, { metrics });
    await client.list(nodes, { signal });
    await client.get(nodes, { name: "a" }, { signal });

    const page = metrics.render();
    assert.match(page, /coral_kube_requests_total\{verb="list",result="ok"\} 1/);
    assert.match(page, /coral_kube_requests_total\{verb="get",result="refused"\} 1/);
    assert.match(page, /coral_kube_requests_total\{verb="watch",result="ok"\} 0/);
  });

  test("wants a namespace where the kind has one", async ({ signal }) => {
    await using server = await FakeApiServer.start();
    await using client = clientOf(server);
    await assert.rejects(client.get(leases, { name: "a" }, { signal }), TypeError);
  });

  test("asks nothing after it was closed", async ({ signal }) => {
    await using server = await FakeApiServer.start();
    const client = clientOf(server);
    await client.list(nodes, { signal });
    await client[Symbol.asyncDispose]();

    await assert.rejects(client.list(nodes, { signal }), { message: /is closed/ });
    assert.equal(server.requests.length, 1);
  });
});
