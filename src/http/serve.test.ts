import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";

import { jsonLog, silentLog } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import { operationsRoutes } from "./operations.ts";
import { router } from "./router.ts";
import { serve } from "./serve.ts";

const local = { port: 0, host: "127.0.0.1" };

/** Sends bytes as they are and returns everything that comes back until the server hangs up. */
async function exchange(port: number, request: string): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  socket.write(request);
  return text(socket);
}

/** The answers that come over a connection, one after the other. */
async function* readAnswers(socket: Socket): AsyncGenerator<string, undefined> {
  for await (const chunk of socket.setEncoding("utf8")) yield String(chunk);
}

describe("serve()", () => {
  const hello = router({ "/": () => ({ body: "hello\n" }) }, silentLog);

  test("answers until it is disposed, and then refuses", async () => {
    const serving = await serve(hello, local);
    const url = `http://127.0.0.1:${serving.port}/`;
    assert.equal(await (await fetch(url)).text(), "hello\n");
    await serving[Symbol.asyncDispose]();

    await assert.rejects(fetch(url));
  });

  test("tells clients that keep connections with its last answers, while it lingers", async () => {
    const serving = await serve(hello, { ...local, lingerMs: 3_000 });
    const kept = connect(serving.port, "127.0.0.1");
    const answers = readAnswers(kept);
    const ask = async (): Promise<string> => {
      kept.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
      return (await answers.next()).value ?? "";
    };
    assert.match(await ask(), /connection: keep-alive/i);
    const disposed = serving[Symbol.asyncDispose]();

    assert.match(await ask(), /^HTTP\/1.1 200 [^]*connection: close/i);
    await once(kept, "close");
    assert.equal(await (await fetch(`http://127.0.0.1:${serving.port}/`)).text(), "hello\n");
    await disposed;
  });

  test("lets an open request finish when it is disposed", async () => {
    const entered = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    const slow = router(
      {
        "/": async () => {
          entered.resolve();
          await release.promise;
          return { body: "done\n" };
        },
      },
      silentLog,
    );
    const serving = await serve(slow, local);
    const answer = fetch(`http://127.0.0.1:${serving.port}/`).then((r) => r.text());
    await entered.promise;
    const closed = serving[Symbol.asyncDispose]();
    release.resolve();

    assert.equal(await answer, "done\n");
    await closed;
  });

  test("cuts off a request that outlasts the close timeout", async () => {
    const entered = Promise.withResolvers<void>();
    const serving = await serve(() => entered.resolve(), { ...local, closeTimeoutMs: 10 });
    const answer = assert.rejects(fetch(`http://127.0.0.1:${serving.port}/`));
    await entered.promise;
    await serving[Symbol.asyncDispose]();
    await answer;
  });

  test("refuses a body that is larger than allowed, without reading it", async () => {
    await using serving = await serve(hello, local);
    const reply = await exchange(
      serving.port,
      "GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n",
    );

    assert.match(reply, /^HTTP\/1\.1 413 /);
  });

  test("refuses a body of unknown length where there is to be none", async () => {
    await using serving = await serve(hello, local);
    const reply = await exchange(
      serving.port,
      "GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n",
    );

    assert.match(reply, /^HTTP\/1\.1 411 /);
  });

  test("refuses headers that are too large", async () => {
    await using serving = await serve(hello, local);
    const reply = await exchange(
      serving.port,
      `GET / HTTP/1.1\r\nhost: x\r\nx: ${"a".repeat(20_000)}\r\n\r\n`,
    );

    assert.match(reply, /^HTTP\/1\.1 431 /);
  });

  test("hangs up on a request that does not arrive in time", async () => {
    // Long enough for a busy machine to send what there is: a reset is no answer.
    await using serving = await serve(hello, { ...local, requestTimeoutMs: 500 });
    const reply = await exchange(serving.port, "GET / HTTP/1.1\r\nhost:");

    assert.match(reply, /^HTTP\/1\.1 408 /);
  });

  test("cuts off connections beyond the most that there may be", async () => {
    await using serving = await serve(hello, { ...local, maxConnections: 1 });
    const first = connect(serving.port, "127.0.0.1");
    await once(first, "connect");

    assert.equal(await exchange(serving.port, "GET / HTTP/1.1\r\nhost: x\r\n\r\n"), "");
    first.destroy();
  });

  test("rejects if the port is taken", async () => {
    await using first = await serve(hello, local);

    await assert.rejects(serve(hello, { ...local, port: first.port }), { code: "EADDRINUSE" });
  });
});

describe("router()", () => {
  test("answers what it does not have with 404, and other methods with 405", async () => {
    const routes = router({ "/a": () => ({ body: "a" }) }, silentLog);
    await using serving = await serve(routes, local);
    const base = `http://127.0.0.1:${serving.port}`;
    const statusOf = async (path: string, method: string): Promise<number> =>
      (await fetch(base + path, { method })).status;

    assert.equal(await statusOf("/a?x=1", "GET"), 200);
    assert.equal(await statusOf("/a", "HEAD"), 200);
    assert.equal(await statusOf("/a", "DELETE"), 405);
    assert.equal(await statusOf("/b", "GET"), 404);
    assert.equal(await statusOf("/toString", "GET"), 404);
  });

  test("logs what a route throws, and tells the client nothing of it", async () => {
    const lines: string[] = [];
    const log = jsonLog({ level: "error", write: (line) => lines.push(line) });
    const routes = router(
      {
        "/": () => {
          throw new Error("inner detail");
        },
      },
      log,
    );
    await using serving = await serve(routes, local);
    const response = await fetch(`http://127.0.0.1:${serving.port}/`);

    assert.equal(response.status, 500);
    assert.equal(await response.text(), "failed\n");
    assert.match(lines.join(""), /inner detail/);
  });
});

describe("operationsRoutes()", () => {
  test("answers probes by status and line, and metrics", async () => {
    const metrics = new Registry();
    metrics.gauge({ name: "coral_x", help: "X." });
    const probes = {
      started: () => ({ isOk: true, lines: ["[-]images not synced"] }),
      live: () => ({ isOk: true, lines: ["[+]queue ok"] }),
      ready: () => ({ isOk: false, lines: ["[-]images not synced"] }),
    };
    await using serving = await serve(router(operationsRoutes(probes, metrics), silentLog), local);
    const get = async (path: string): Promise<[number, string]> => {
      const response = await fetch(`http://127.0.0.1:${serving.port}${path}`);
      return [response.status, await response.text()];
    };

    assert.deepEqual(await get("/startupz"), [200, "[-]images not synced\nok\n"]);
    assert.deepEqual(await get("/healthz"), [200, "[+]queue ok\nok\n"]);
    assert.deepEqual(await get("/readyz"), [503, "[-]images not synced\nfailed\n"]);
    assert.deepEqual(await get("/metrics"), [200, metrics.render()]);
  });
});
