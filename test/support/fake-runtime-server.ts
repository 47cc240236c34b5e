import { once } from "node:events";
import { rmSync } from "node:fs";
import {
  createServer,
  type Http2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";

import type { Codec, Method } from "#cri/grpc-channel.ts";
import { encodeFrame, FrameDecoder } from "#cri/grpc-frames.ts";
import { RpcError, rpcCodes } from "#cri/rpc-error.ts";

/** Yields a call's answers, one or more. Throw an {@link RpcError} to end it with that status. */
type Handler = (request: Uint8Array, signal: AbortSignal) => AsyncGenerator<Uint8Array>;

/** A gRPC server on a Unix socket, as small as unary and server-streaming calls allow. */
export class GrpcServer implements AsyncDisposable {
  readonly socketPath: string;
  readonly #handlers = new Map<string, Handler>();
  readonly #sessions = new Set<ServerHttp2Session>();
  #server: Http2Server | undefined;

  constructor(socketPath: string) {
    this.socketPath = socketPath;
  }

  /** Answers calls of a method that has one answer. `signal` is aborted when the caller is gone. */
  unary<Request, Response>(
    { path, request, response }: Method<Request, Response>,
    handle: (request: Request, signal: AbortSignal) => Promise<Response>,
  ): void {
    this.#handlers.set(path, async function* answer(bytes, signal) {
      yield encode(response, await handle(request.decode(bytes), signal));
    });
  }

  /** Answers calls of a method that has any number of answers. */
  stream<Request, Response>(
    { path, request, response }: Method<Request, Response>,
    handle: (request: Request, signal: AbortSignal) => AsyncIterable<Response>,
  ): void {
    this.#handlers.set(path, async function* answer(bytes, signal) {
      for await (const message of handle(request.decode(bytes), signal)) {
        yield encode(response, message);
      }
    });
  }

  async start(): Promise<void> {
    rmSync(this.socketPath, { force: true });
    // Node's default of 10 MB is less than one answer may have.
    const server = createServer({ maxSessionMemory: 100 });
    server.on("session", (session) => {
      this.#sessions.add(session);
      session.on("error", () => {}); // A client that goes away is no failure of ours.
      session.once("close", () => this.#sessions.delete(session));
    });
    server.on("stream", (stream: ServerHttp2Stream, headers) => {
      stream.on("error", () => {});
      void this.#serve(stream, headers[":path"] ?? "", String(headers["grpc-timeout"] ?? ""));
    });
    server.listen(this.socketPath);
    await once(server, "listening");
    this.#server = server;
  }

  /** Goes away at once, as a killed process does: calls in flight are cut off. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    const { promise, resolve } = Promise.withResolvers<void>();
    server.close(() => resolve());
    for (const session of this.#sessions) session.destroy();
    await promise;
    rmSync(this.socketPath, { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #serve(stream: ServerHttp2Stream, path: string, timeout: string): Promise<void> {
    const gone = new AbortController();
    stream.once("close", () => gone.abort(new RpcError("CANCELLED", "context canceled")));
    const timeoutMs = /^\d+m$/.test(timeout) ? Number.parseInt(timeout, 10) : undefined;
    if (timeoutMs !== undefined) void expire(timeoutMs, gone);
    try {
      const handler = this.#handlers.get(path);
      if (!handler) throw new RpcError("UNIMPLEMENTED", `unknown method ${path}`);
      const answers = handler(await readMessage(stream), gone.signal);
      for await (const answer of answers) {
        if (stream.destroyed) return;
        if (!stream.headersSent) respond(stream);
        if (stream.write(encodeFrame(answer))) continue;
        await once(stream, "drain", { signal: gone.signal });
      }
      if (!stream.headersSent) respond(stream);
      stream.end();
    } catch (error) {
      endWith(stream, gone.signal.aborted ? gone.signal.reason : error);
    } finally {
      gone.abort();
    }
  }
}

async function expire(timeoutMs: number, gone: AbortController): Promise<void> {
  try {
    await sleep(timeoutMs, undefined, { signal: gone.signal, ref: false });
    gone.abort(new RpcError("DEADLINE_EXCEEDED", "context deadline exceeded"));
  } catch {
    // The call ended in time.
  }
}

async function readMessage(stream: ServerHttp2Stream): Promise<Uint8Array> {
  const frames = new FrameDecoder({ maxMessageBytes: 16 * 1024 * 1024 });
  for await (const piece of stream.iterator({ destroyOnReturn: false })) {
    for (const message of frames.push(piece)) return message;
  }
  throw new RpcError("INVALID_ARGUMENT", "no message came");
}

/** Starts an answer with messages, which ends in trailers with the status OK. */
function respond(stream: ServerHttp2Stream): void {
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
  stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
}

/** Ends a call with a status, without messages if there was none: "trailers-only". */
function endWith(stream: ServerHttp2Stream, error: unknown): void {
  if (stream.destroyed) return;
  if (stream.headersSent) return stream.close();
  const status = error instanceof RpcError ? error : new RpcError("INTERNAL", String(error));
  stream.respond(
    {
      ":status": 200,
      "content-type": "application/grpc",
      "grpc-status": String(rpcCodes.indexOf(status.code)),
      "grpc-message": encodeURIComponent(status.message),
    },
    { endStream: true },
  );
}

function encode<T>(codec: Codec<T>, message: T): Uint8Array {
  return codec.encode(message).finish();
}
