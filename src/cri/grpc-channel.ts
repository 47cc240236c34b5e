import { addAbortListener } from "node:events";
import {
  connect,
  constants,
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
} from "node:http2";
import { createConnection } from "node:net";

import { encodeFrame, FrameDecoder } from "./grpc-frames.ts";
import { RpcError, rpcCodes, RuntimeUnavailableError } from "./rpc-error.ts";

/** 16 MiB, as the kubelet allows: a node with many images answers one ListImages with megabytes. */
const maxMessageBytes = 16 * 1024 * 1024;

/** A codec as ts-proto generates them. */
export interface Codec<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}

/** One method of a generated service definition, with the path under which it is called. */
export interface Method<Request, Response> {
  path: string;
  request: Codec<Request>;
  response: Codec<Response>;
}

interface MethodDefinition<Request, Response> {
  name: string;
  requestType: Codec<Request>;
  responseType: Codec<Response>;
}

/** Names a method of a service as ts-proto's `generic-definitions` describe it. */
export function methodOf<Request, Response>(
  service: { fullName: string },
  method: MethodDefinition<Request, Response>,
): Method<Request, Response> {
  return {
    path: `/${service.fullName}/${method.name}`,
    request: method.requestType,
    response: method.responseType,
  };
}

export interface CallOptions {
  /** Longest wait for the whole call, in milliseconds. The server is told too. */
  timeoutMs: number;
  /** Extra request headers. */
  metadata?: Readonly<Record<string, string>>;
  signal: AbortSignal;
}

export type StreamOptions = Omit<CallOptions, "timeoutMs">;

/**
 * A gRPC client on a Unix socket, for the two kinds of call that the runtime's API has.
 *
 * All calls share one HTTP/2 session. It is opened by the first call, and again by the next call
 * after the server went away: a lost session fails the calls in flight and nothing else. No pings
 * are sent: the kernel closes both ends of a Unix socket, so half a connection cannot be left over.
 */
export class GrpcChannel implements AsyncDisposable {
  readonly #socketPath: string;
  #session: ClientHttp2Session | undefined;
  #isDisposed = false;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /**
   * Calls a method that answers with one message.
   *
   * @throws {RpcError} if the server answers with another status than OK, or a limit is passed.
   * @throws {RuntimeUnavailableError} if there is no connection, or it is lost before the answer.
   * @throws the signal's reason, if aborted; the server is told that the call is cancelled.
   */
  async unary<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    { timeoutMs, metadata = {}, signal }: CallOptions,
  ): Promise<Response> {
    signal.throwIfAborted();
    const end = performance.now() + timeoutMs;
    // `AbortSignal.timeout` would stay for its whole time with a signal that lives as long as the
    // process: a timer of our own is taken back.
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), timeoutMs);
    using _ = addAbortListener(signal, () => stop.abort());
    const headers = { ...metadata, "grpc-timeout": grpcTimeout(timeoutMs) };
    try {
      const call = this.#start(method, request, stop.signal, headers);
      let response: Response | undefined;
      for await (const message of call) {
        // At the second, and not at the end: there may be any number of them.
        if (response !== undefined) {
          throw new RpcError("INTERNAL", `${method.path} gave more than one message`);
        }
        response = message;
      }
      if (response !== undefined) return response;
      throw new RpcError("INTERNAL", `${method.path} gave no message`);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof RpcError) throw error;
      // The server keeps the same deadline: it may have hung up just before our own timer.
      if (!stop.signal.aborted && performance.now() < end) throw error;
      const message = `${method.path} had no answer within ${timeoutMs} ms`;
      throw new RpcError("DEADLINE_EXCEEDED", message);
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Calls a method that answers with a stream of messages. The request is on its way when this
   * returns; what the server sends before the first read is kept (within HTTP/2's flow control).
   *
   * The iteration ends only by an error, as {@link unary}, or when the server ends the stream.
   */
  serverStream<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    { metadata = {}, signal }: StreamOptions,
  ): AsyncIterable<Response> {
    signal.throwIfAborted();
    return this.#start(method, request, signal, metadata);
  }

  #start<Request, Response>(
    { path, request: requestCodec, response: responseCodec }: Method<Request, Response>,
    request: Request,
    signal: AbortSignal,
    headers: Readonly<Record<string, string>>,
  ): AsyncGenerator<Response> {
    const requestHeaders = {
      ":method": "POST",
      ":path": path,
      "content-type": "application/grpc",
      te: "trailers",
      "user-agent": "coral",
      ...headers,
    };
    const stream = this.#open().request(requestHeaders, { signal });
    const call = new Call(path, stream, signal);
    stream.end(encodeFrame(requestCodec.encode(request).finish()));
    return call.messages(responseCodec);
  }

  #open(): ClientHttp2Session {
    if (this.#isDisposed) throw new RuntimeUnavailableError("The client of the runtime is closed");
    if (this.#session && !this.#session.closed && !this.#session.destroyed) return this.#session;
    // gRPC servers on a Unix socket expect this authority, whatever the socket's path.
    const session = connect("http://localhost", {
      createConnection: () => createConnection(this.#socketPath),
    });
    session.on("error", () => {}); // Each stream of the session reports the loss to its caller.
    this.#session = session;
    return session;
  }

  /** Closes the connection. Calls in flight fail as {@link RuntimeUnavailableError}. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDisposed = true;
    const session = this.#session;
    if (!session || session.destroyed) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    session.once("close", resolve);
    session.destroy();
    await promise;
  }
}

/** One call on its HTTP/2 stream: collects the status that comes before, with or after the messages. */
class Call {
  readonly #path: string;
  readonly #stream: ClientHttp2Stream;
  readonly #signal: AbortSignal;
  readonly #closed = Promise.withResolvers<void>();
  #trailers: IncomingHttpHeaders = {};
  #httpStatus: number | undefined;
  #failure: unknown;

  constructor(path: string, stream: ClientHttp2Stream, signal: AbortSignal) {
    this.#path = path;
    this.#stream = stream;
    this.#signal = signal;
    stream.once("response", (headers) => {
      this.#httpStatus = headers[":status"];
      // An answer without messages may have its status here: "trailers-only".
      if ("grpc-status" in headers) this.#trailers = headers;
    });
    stream.once("trailers", (trailers) => {
      this.#trailers = trailers;
    });
    stream.once("error", (error) => {
      this.#failure = error;
    });
    stream.once("close", this.#closed.resolve);
  }

  async *messages<T>(codec: Codec<T>): AsyncGenerator<T> {
    const frames = new FrameDecoder({ maxMessageBytes });
    try {
      try {
        for await (const piece of this.#stream.iterator({ destroyOnReturn: false })) {
          if (this.#httpStatus !== 200) continue; // Some other server's page.
          for (const message of frames.push(piece)) yield this.#decode(codec, message);
        }
        await this.#closed.promise; // The trailers may come after the last message has been read.
      } catch (error) {
        if (error instanceof RpcError) throw error; // A limit of ours.
        this.#failure ??= error;
      }
      this.#throwUnlessOk(frames.isInsideMessage);
    } finally {
      // Without effect on a call that has ended.
      if (!this.#stream.destroyed) this.#stream.close(constants.NGHTTP2_CANCEL);
    }
  }

  #decode<T>(codec: Codec<T>, message: Uint8Array): T {
    try {
      return codec.decode(message);
    } catch (error) {
      throw new RpcError("INTERNAL", `${this.#path} gave an unreadable message: ${String(error)}`);
    }
  }

  #throwUnlessOk(isCutOff: boolean): void {
    this.#signal.throwIfAborted();
    const status = this.#trailers["grpc-status"];
    if (typeof status !== "string" || (status === "0" && isCutOff)) {
      const how =
        this.#httpStatus === undefined || this.#httpStatus === 200
          ? `${this.#path} had no answer: the connection to the runtime failed`
          : `${this.#path} answered with HTTP status ${this.#httpStatus}`;
      throw new RuntimeUnavailableError(how, { cause: this.#failure });
    }
    const code = rpcCodes[Number(status)] ?? "UNKNOWN";
    if (code !== "OK") throw new RpcError(code, decodeMessage(this.#trailers["grpc-message"]));
  }
}

/** `grpc-timeout` has at most eight digits; milliseconds reach 27 hours so. */
function grpcTimeout(timeoutMs: number): string {
  return `${Math.min(Math.max(1, Math.ceil(timeoutMs)), 99_999_999)}m`;
}

/** Decodes the percent-encoded `grpc-message`. Text that is not valid stays as it came. */
function decodeMessage(message: string | string[] | undefined): string {
  const text = Array.isArray(message) ? message.join(" ") : (message ?? "");
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
