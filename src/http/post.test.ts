import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";

import { jsonLog, silentLog } from "#telemetry/log.ts";
import { router, type PostEntry, type PostRequest, type Reply } from "./router.ts";
import { serve, type Serving } from "./serve.ts";

/** Tells what it was sent. */
const echo: PostEntry = {
  post: async ({ body, headers }) => ({
    contentType: "application/json",
    body: JSON.stringify({ body, as: headers.authorization }),
  }),
  maxBodyBytes: 100,
};

const json = { "content-type": "application/json" };

async function serving(entry: PostEntry, maxBodyBytes = 1_000): Promise<Serving> {
  const options = { port: 0, host: "127.0.0.1", maxBodyBytes };
  return serve(router({ "/echo": entry, "/get": () => ({ body: "got" }) }, silentLog), options);
}

async function send({ port }: Serving, init: RequestInit, path = "/echo"): Promise<Response> {
  return fetch(`http://127.0.0.1:${port}${path}`, { method: "POST", headers: json, ...init });
}

/** Sends bytes as they are and returns everything that comes back until the server hangs up. */
async function exchange({ port }: Serving, request: string): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  socket.write(request);
  return text(socket);
}

describe("a route for POST", () => {
  test("gets the body and the headers", async () => {
    await using server = await serving(echo);
    const headers = {
      "content-type": "Application/JSON; charset=utf-8",
      authorization: "Bearer x",
    };
    const response = await send(server, { headers, body: '{"a":[1]}' });

    assert.deepEqual(await response.json(), { body: { a: [1] }, as: "Bearer x" });
  });

  // A stranger's bodies would fill the memory, and take seconds to parse.
  test("asks who sends before it reads what is sent", async () => {
    let isRead = false;
    const entry: PostEntry = {
      admit: async ({ headers: { authorization }, remoteAddress }) => {
        if (authorization !== "Bearer x") return { status: 401, body: "who?\n" };
        return async ({ body }) => {
          isRead = true;
          return { body: `${JSON.stringify(body)} from ${remoteAddress}` };
        };
      },
    };
    await using server = await serving(entry, 100_000);
    const head = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    const refused = await exchange(server, `${head}content-length: 70000\r\n\r\n{`);
    assert.match(refused, /^HTTP\/1\.1 401 [^]*connection: close[^]*who\?\n$/);
    assert.equal(isRead, false);

    const headers = { ...json, authorization: "Bearer x" };
    const admitted = await send(server, { headers, body: "{}" });
    assert.equal(await admitted.text(), "{} from 127.0.0.1");
  });

  // Agents that were told to try again made a new connection for each attempt.
  test("leaves a client its connection that was refused with a small body", async () => {
    await using server = await serving({ admit: async () => ({ status: 503, body: "later\n" }) });
    const head = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    const refused = `${head}content-length: 900\r\n\r\n"${"a".repeat(898)}"`;
    const next = "GET /get HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    const answers = await exchange(server, refused + refused + next);

    assert.match(
      answers,
      /^HTTP\/1\.1 503 [^]*later\nHTTP\/1\.1 503 [^]*later\nHTTP\/1\.1 200 [^]*got$/,
    );
  });

  test("gets a body of unknown length, as long as it is not too large", async () => {
    await using server = await serving(echo);
    const head = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    const chunked = `${head}transfer-encoding: chunked\r\n`;
    const small = await exchange(server, `${chunked}connection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n`);
    const large = await exchange(server, `${chunked}\r\n65\r\n"${"a".repeat(100)}\r\n`);

    assert.match(small, /\{"body":\{\}\}$/);
    assert.match(large, /^HTTP\/1\.1 413 [^]*connection: close[^]*at most 100 bytes\n$/i);
  });

  const refused: Record<string, [status: number, init: RequestInit, path?: string]> = {
    "a body that is no JSON": [400, { body: "{" }],
    "an empty body": [400, { body: "" }],
    "another type of content": [415, { headers: { "content-type": "text/plain" }, body: "{}" }],
    "no type of content": [415, { headers: {}, body: new Uint8Array([1]) }],
    "more than the route takes": [413, { body: `"${"a".repeat(200)}"` }],
    "more than the server takes": [413, { body: `"${"a".repeat(2_000)}"` }],
    "another method": [405, { method: "GET" }],
    "POST where only GET is answered": [405, { body: "{}" }, "/get"],
    "a path that is not there": [404, { body: "{}" }, "/nowhere"],
  };
  for (const [what, [status, init, path]] of Object.entries(refused)) {
    test(`refuses ${what}`, async () => {
      await using server = await serving(echo);

      assert.equal((await send(server, init, path)).status, status);
    });
  }

  test("says which methods it answers", async () => {
    await using server = await serving(echo);
    const allowed = async (init: RequestInit, path?: string): Promise<string | null> =>
      (await send(server, init, path)).headers.get("allow");

    assert.equal(await allowed({ method: "PUT", body: "{}" }), "POST");
    assert.equal(await allowed({ body: "{}" }, "/get"), "GET, HEAD");
  });

  test("is given up when its time is over", async () => {
    const aborted = Promise.withResolvers<unknown>();
    const hang = async ({ signal }: PostRequest): Promise<Reply> => {
      signal.addEventListener("abort", () => aborted.resolve(signal.reason));
      return new Promise(() => {});
    };
    await using server = await serving({ post: hang, timeoutMs: 20 });
    const response = await send(server, { body: "{}" });

    assert.equal(response.status, 504);
    assert.equal(await response.text(), "no answer within 20 ms\n");
    assert.equal(String(await aborted.promise), "TimeoutError: The request took too long");
  });

  test("hears that the client has left, which is no failure", async () => {
    const entered = Promise.withResolvers<void>();
    const aborted = Promise.withResolvers<void>();
    const lines: string[] = [];
    const log = jsonLog({ level: "error", write: (line) => lines.push(line) });
    const wait = async ({ signal }: PostRequest): Promise<Reply> => {
      entered.resolve();
      await once(signal, "abort");
      aborted.resolve();
      throw signal.reason;
    };
    const options = { port: 0, host: "127.0.0.1", maxBodyBytes: 1_000 };
    await using server = await serve(router({ "/echo": { post: wait } }, log), options);
    const client = new AbortController();
    const answer = assert.rejects(send(server, { body: "{}", signal: client.signal }));
    await entered.promise;
    client.abort();
    await Promise.all([answer, aborted.promise]);

    assert.deepEqual(lines, []);
  });
});
