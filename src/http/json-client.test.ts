import assert from "node:assert/strict";
import { once } from "node:events";
import { Agent } from "node:https";
import { describe, test } from "node:test";
import { createServer } from "node:tls";

import { silentLog } from "#telemetry/log.ts";
import { aCertificate } from "#test/certificates.ts";
import { postJson, type JsonPost } from "./json-client.ts";
import { router, type PostRoute } from "./router.ts";
import { serveTls, type Serving } from "./serve.ts";

const serverName = "coral.test";
const certificate = aCertificate(serverName);
const certificates = {
  current: () => certificate,
  onChange: () => ({ [Symbol.dispose]() {} }),
};

async function serving(post: PostRoute): Promise<Serving> {
  const options = { port: 0, host: "127.0.0.1", maxBodyBytes: 1_000, certificates };
  return serveTls(router({ "/echo": { post } }, silentLog), options);
}

const echo: PostRoute = async ({ body, headers }) => ({
  contentType: "application/json",
  body: JSON.stringify({ body, host: headers.host, as: headers.authorization }),
});

/** A request, with an agent that ends with the scope. */
function aPost({ port }: { port: number }, part: Partial<JsonPost> = {}): JsonPost & Disposable {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  return {
    agent,
    host: "127.0.0.1",
    port,
    serverName,
    ca: certificate.ca,
    path: "/echo",
    body: { a: [1] },
    maxAnswerBytes: 1_000,
    signal: AbortSignal.timeout(5_000),
    ...part,
    [Symbol.dispose]: () => agent.destroy(),
  };
}

describe("postJson()", () => {
  test("sends JSON and headers, and reads the answer", async () => {
    await using server = await serving(echo);
    using post = aPost(server, { headers: { authorization: "Bearer x" } });
    const { status, body } = await postJson(post);
    assert.equal(status, 200);
    assert.deepEqual(body, { body: { a: [1] }, host: serverName, as: "Bearer x" });
  });

  test("returns refusals, whose words are no JSON", async () => {
    await using server = await serving(async () => ({ status: 403, body: "not you\n" }));
    using post = aPost(server);
    assert.deepEqual(await postJson(post), { status: 403, body: undefined });
  });

  test("rejects an answer that is too large", async () => {
    await using server = await serving(async () => ({ body: `"${"a".repeat(1_000)}"` }));
    using post = aPost(server);
    await assert.rejects(postJson(post), { code: "BODY_TOO_LARGE" });
  });

  test("rejects a server whose certificate is not to be trusted, or is another's", async () => {
    await using server = await serving(echo);
    using stranger = aPost(server, { ca: aCertificate(serverName).ca });
    using misnamed = aPost(server, { serverName: "other.test" });
    await assert.rejects(postJson(stranger), { code: "UNABLE_TO_VERIFY_LEAF_SIGNATURE" });
    await assert.rejects(postJson(misnamed), { code: "ERR_TLS_CERT_ALTNAME_INVALID" });
  });

  test("ends when it is aborted", async () => {
    const entered = Promise.withResolvers<void>();
    await using server = await serving(async ({ signal }) => {
      entered.resolve();
      const left = Promise.withResolvers<never>();
      signal.addEventListener("abort", () => left.reject(signal.reason));
      return left.promise;
    });
    const stop = new AbortController();
    using post = aPost(server, { signal: stop.signal });
    const answer = assert.rejects(postJson(post), { name: "AbortError" });
    await entered.promise;
    stop.abort(new Error("enough"));
    await answer;
  });

  test("sends once more what meets a kept connection that the server closes", async () => {
    let requests = 0;
    // It answers one request of each connection, and hangs up on the next.
    const server = createServer({ cert: certificate.cert, key: certificate.key }, (socket) => {
      let left = 1;
      socket.on("error", () => {});
      socket.on("data", (chunk) => {
        if (!chunk.toString().includes("POST /echo")) return;
        requests++;
        if (left-- === 0) socket.destroy();
        else socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
      });
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    assert.ok(typeof address === "object" && address !== null);
    {
      using post = aPost(address);
      for (let i = 0; i < 3; i++) assert.deepEqual(await postJson(post), { status: 200, body: {} });
    }
    assert.equal(requests, 5);
    server.close();
  });
});
