import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type ServerHttp2Stream } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";

import { GrpcServer } from "#test/fake-runtime-server.ts";
import { GrpcChannel, type Method } from "./grpc-channel.ts";
import { encodeFrame } from "./grpc-frames.ts";
import { RpcError } from "./rpc-error.ts";

const bytes = { encode: (m: Uint8Array) => ({ finish: () => m }), decode: (m: Uint8Array) => m };
const echo: Method<Uint8Array, Uint8Array> = {
  path: "/test/Echo",
  request: bytes,
  response: bytes,
};
const mebibyte = 1024 * 1024;
const timeoutMs = 10_000;

function socketPath(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "coral-rpc-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, "s.sock");
}

/** A server that answers any call as told, right or wrong. */
async function rawServer(
  t: TestContext,
  answer: (stream: ServerHttp2Stream) => void,
): Promise<string> {
  const path = socketPath(t);
  const server = createServer();
  server.on("stream", (stream: ServerHttp2Stream) => {
    stream.on("error", () => {});
    stream.resume();
    answer(stream);
  });
  server.listen(path);
  await once(server, "listening");
  t.after(() => server.close());
  return path;
}

async function echoServer(
  t: TestContext,
  handle: (request: Uint8Array, signal: AbortSignal) => Promise<Uint8Array>,
): Promise<GrpcServer> {
  const server = new GrpcServer(socketPath(t));
  server.unary(echo, handle);
  await server.start();
  t.after(() => server.stop());
  return server;
}

describe("GrpcChannel", () => {
  test("carries answers of megabytes, many calls at a time", async (t) => {
    const server = await echoServer(t, async ([n]) => Buffer.alloc(5 * mebibyte, n));
    await using channel = new GrpcChannel(server.socketPath);

    const answers = await Promise.all(
      [1, 2, 3].map((n) => channel.unary(echo, Buffer.of(n), { timeoutMs, signal: t.signal })),
    );

    assert.deepEqual(
      answers.map((answer) => [answer.length, answer[0], answer.at(-1)]),
      [1, 2, 3].map((n) => [5 * mebibyte, n, n]),
    );
  });

  test("refuses an answer over 16 MiB", async (t) => {
    const server = await echoServer(t, async () => Buffer.alloc(16 * mebibyte + 1));
    await using channel = new GrpcChannel(server.socketPath);

    await assert.rejects(channel.unary(echo, Buffer.of(), { timeoutMs, signal: t.signal }), {
      name: "RpcError",
      code: "RESOURCE_EXHAUSTED",
    });
  });

  // A runtime sends blobs of any size so, a mebibyte each.
  test("refuses a second message where one is due, and tells the server", async (t) => {
    const gone = Promise.withResolvers<void>();
    const path = await rawServer(t, (stream) => {
      stream.on("close", () => gone.resolve());
      stream.respond({ ":status": 200 });
      const message = encodeFrame(Buffer.alloc(10));
      for (let sent = 0; sent < 2; sent++) stream.write(message); // And more, as long as it may.
    });
    await using channel = new GrpcChannel(path);

    await assert.rejects(channel.unary(echo, Buffer.of(), { timeoutMs, signal: t.signal }), {
      name: "RpcError",
      code: "INTERNAL",
      message: "/test/Echo gave more than one message",
    });

    await gone.promise;
  });

  test("reads a status without messages, its text percent-encoded", async (t) => {
    const path = await rawServer(t, (stream) => {
      stream.respond(
        {
          ":status": 200,
          "content-type": "application/grpc",
          "grpc-status": "5",
          "grpc-message": "nicht gefunden: %C3%BCber 100%25",
        },
        { endStream: true },
      );
    });
    await using channel = new GrpcChannel(path);

    await assert.rejects(channel.unary(echo, Buffer.of(), { timeoutMs, signal: t.signal }), {
      code: "NOT_FOUND",
      message: "nicht gefunden: über 100%",
    });
  });

  test("reads a status that comes after messages, and text that is not well encoded", async (t) => {
    const path = await rawServer(t, (stream) => {
      stream.respond({ ":status": 200 }, { waitForTrailers: true });
      stream.on("wantTrailers", () =>
        stream.sendTrailers({ "grpc-status": "99", "grpc-message": "100% wrong" }),
      );
      stream.end(encodeFrame(Buffer.of(1)));
    });
    await using channel = new GrpcChannel(path);

    await assert.rejects(channel.unary(echo, Buffer.of(), { timeoutMs, signal: t.signal }), {
      code: "UNKNOWN",
      message: "100% wrong",
    });
  });

  test("takes the end of a stream without a status, or inside a message, for a lost connection", async (t) => {
    for (const trailers of [{}, { "grpc-status": "0" }]) {
      const path = await rawServer(t, (stream) => {
        stream.respond({ ":status": 200 }, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers(trailers));
        stream.end(encodeFrame(Buffer.alloc(10)).subarray(0, 7));
      });
      await using channel = new GrpcChannel(path);

      await assert.rejects(channel.unary(echo, Buffer.of(), { timeoutMs, signal: t.signal }), {
        name: "RuntimeUnavailableError",
        code: "RUNTIME_UNAVAILABLE",
      });
    }
  });

  test("names the HTTP status of a server that speaks no gRPC", async (t) => {
    const path = await rawServer(t, (stream) => {
      stream.respond({ ":status": 404 });
      stream.end("<html>");
    });
    await using channel = new GrpcChannel(path);

    await assert.rejects(channel.unary(echo, Buffer.of(), { timeoutMs, signal: t.signal }), {
      code: "RUNTIME_UNAVAILABLE",
      message: "/test/Echo answered with HTTP status 404",
    });
  });

  test("says that nobody listens", async (t) => {
    await using channel = new GrpcChannel(socketPath(t));

    await assert.rejects(channel.unary(echo, Buffer.of(), { timeoutMs, signal: t.signal }), {
      code: "RUNTIME_UNAVAILABLE",
    });
  });

  test("ends a call whose time is over, and tells the server", async (t) => {
    const gone = Promise.withResolvers<void>();
    const server = await echoServer(t, async (request, signal) => {
      await once(signal, "abort");
      gone.resolve();
      return request;
    });
    await using channel = new GrpcChannel(server.socketPath);

    await assert.rejects(channel.unary(echo, Buffer.of(), { timeoutMs: 20, signal: t.signal }), {
      name: "RpcError",
      code: "DEADLINE_EXCEEDED",
    });

    await gone.promise;
  });

  test("ends an aborted call with the caller's reason, and tells the server", async (t) => {
    const caller = new AbortController();
    const reason = new Error("The caller has enough");
    const gone = Promise.withResolvers<void>();
    const server = await echoServer(t, async (request, signal) => {
      caller.abort(reason);
      await once(signal, "abort");
      gone.resolve();
      return request;
    });
    await using channel = new GrpcChannel(server.socketPath);

    const call = channel.unary(echo, Buffer.of(), { timeoutMs, signal: caller.signal });

    await assert.rejects(call, reason);
    await gone.promise;
  });

  test("cancels a stream that its reader leaves", async (t) => {
    const gone = Promise.withResolvers<void>();
    const server = new GrpcServer(socketPath(t));
    server.stream(echo, async function* forever(request, signal) {
      signal.addEventListener("abort", () => gone.resolve());
      for (;;) yield request;
    });
    await server.start();
    t.after(() => server.stop());
    await using channel = new GrpcChannel(server.socketPath);

    for await (const message of channel.serverStream(echo, Buffer.of(7), { signal: t.signal })) {
      assert.deepEqual([...message], [7]);
      break;
    }

    await gone.promise;
  });

  test("fails the calls in flight when the server goes, and reconnects for the next", async (t) => {
    const reached = Promise.withResolvers<void>();
    const server = await echoServer(t, async (request, signal) => {
      if (request.length > 0) return request;
      reached.resolve();
      await once(signal, "abort");
      throw new RpcError("CANCELLED", "context canceled");
    });
    await using channel = new GrpcChannel(server.socketPath);
    const call = channel.unary(echo, Buffer.of(), { timeoutMs, signal: t.signal });
    const failed = assert.rejects(call, { code: "RUNTIME_UNAVAILABLE" });
    await reached.promise;

    await server.stop();
    await failed;
    await server.start();

    const answer = await channel.unary(echo, Buffer.of(7), { timeoutMs, signal: t.signal });
    assert.deepEqual([...answer], [7]);
  });

  test("fails what is in flight when it is closed, and every later call", async (t) => {
    const reached = Promise.withResolvers<void>();
    const server = await echoServer(t, async (request, signal) => {
      reached.resolve();
      await once(signal, "abort");
      return request;
    });
    const channel = new GrpcChannel(server.socketPath);
    const call = channel.unary(echo, Buffer.of(), { timeoutMs, signal: t.signal });
    const failed = assert.rejects(call, { code: "RUNTIME_UNAVAILABLE" });
    await reached.promise;

    await channel[Symbol.asyncDispose]();

    await failed;
    await assert.rejects(channel.unary(echo, Buffer.of(), { timeoutMs, signal: t.signal }), {
      code: "RUNTIME_UNAVAILABLE",
    });
  });
});
