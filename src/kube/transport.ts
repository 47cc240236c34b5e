import { addAbortListener } from "node:events";
import {
  connect,
  constants,
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
} from "node:http2";

import type { Log } from "#telemetry/log.ts";
import type { ClusterConfig } from "./cluster-config.ts";
import { ApiUnreachableError, type RequestName } from "./errors.ts";

export interface TransportTiming {
  /** Longest wait for TCP and TLS together. */
  readonly connectTimeoutMs: number;
  /** How long a connection may be silent before it is asked for a sign of life. */
  readonly pingIntervalMs: number;
  /** How long it may take to give one. */
  readonly pingTimeoutMs: number;
}

/** A dead link is noticed within 15 s, in time for a status that must be right 15 s after it is back. */
export const defaultTiming: TransportTiming = {
  // With the wait between attempts at most 10 s, so that a node is back 15 s after its link is.
  connectTimeoutMs: 5_000,
  pingIntervalMs: 10_000,
  pingTimeoutMs: 5_000,
};

/**
 * Room for what comes while the reader is busy: an API server ends a watch whose reader is behind. A
 * thousand nodes may report at once. It is a bound of what waits, and is not held.
 */
const streamWindowBytes = 8 << 20;
const sessionWindowBytes = 16 << 20;

/** The first try, and two more for a server that is going away or busy. */
const maxAttempts = 3;

export interface TransportRequest extends RequestName {
  /** Empty, or with its question mark. */
  readonly query: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Longest wait for the answer's headers. */
  readonly timeoutMs: number;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly stream: ClientHttp2Stream;
}

/**
 * Sends HTTP/2 requests to one API server over one connection, which it opens when it is needed and
 * replaces when it is lost, silent, or on its way out (GOAWAY). Streams on the old one may finish.
 */
export class Transport implements AsyncDisposable {
  readonly #config: ClusterConfig;
  readonly #timing: TransportTiming;
  readonly #log: Log;
  readonly #connections = new Set<Connection>();
  #current: Connection | undefined;
  #isDisposed = false;

  constructor(config: ClusterConfig, timing: TransportTiming, log: Log) {
    this.#config = config;
    this.#timing = timing;
    this.#log = log;
  }

  /**
   * Sends a request and waits for the headers of its answer.
   *
   * It tries again by itself if the server surely did not act on the request (RFC 9113, 8.7), and
   * a GET also if the server said GOAWAY.
   *
   * @throws {ApiUnreachableError} if no answer begins within `timeoutMs`.
   * @throws the signal's reason, if aborted. `signal` also ends the answer's stream.
   */
  async open(request: TransportRequest, { signal }: { signal: AbortSignal }): Promise<Answer> {
    for (let attempt = 1; ; attempt++) {
      signal.throwIfAborted();
      const connection = this.#usable();
      try {
        await abortable(connection.ready, signal);
        return await connection.exchange(request, signal);
      } catch (error) {
        signal.throwIfAborted();
        const mayRepeat =
          (error instanceof UntouchedError && attempt < maxAttempts) ||
          (connection.isGoingAway && request.method === "GET" && attempt < maxAttempts);
        if (!mayRepeat) throw new ApiUnreachableError(request, reasonOf(error), error);
      }
    }
  }

  /** Ends every connection and the streams on it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDisposed = true;
    await Promise.all([...this.#connections].map((connection) => connection.end()));
  }

  #usable(): Connection {
    if (this.#isDisposed) throw new Error("The Kubernetes client is closed");
    if (this.#current?.isUsable) return this.#current;
    const connection = new Connection(this.#config, this.#timing, this.#log);
    this.#connections.add(connection);
    void connection.closed.then(() => this.#connections.delete(connection));
    this.#current = connection;
    return connection;
  }
}

/** The server surely did not see the request, or surely did nothing with it. */
class UntouchedError extends Error {
  override readonly name = "UntouchedError";
}

/** One HTTP/2 session, from before it is connected until it is closed. */
class Connection {
  readonly #session: ClientHttp2Session;
  readonly #pathPrefix: string;
  readonly #ready = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<void>();
  #fault: Error | undefined;

  /** Rejects with what kept it from connecting. */
  readonly ready: Promise<void> = this.#ready.promise;
  readonly closed: Promise<void> = this.#closed.promise;
  isGoingAway = false;

  constructor(config: ClusterConfig, timing: TransportTiming, log: Log) {
    const { server, ca, clientCert, clientKey, serverName } = config;
    this.#pathPrefix = server.pathname.replace(/\/$/, "");
    this.#session = connect(server.origin, {
      ...(ca !== undefined && { ca }),
      ...(clientCert !== undefined && { cert: clientCert }),
      ...(clientKey !== undefined && { key: clientKey }),
      ...(serverName !== undefined && { servername: serverName }),
      settings: { enablePush: false, initialWindowSize: streamWindowBytes },
    });
    this.ready.catch(() => {}); // Whoever waits sees it; perhaps nobody does any more.
    this.#attend(timing, log.child({ server: server.host }));
  }

  get isUsable(): boolean {
    return !this.isGoingAway && !this.#session.closed && !this.#session.destroyed;
  }

  async exchange(request: TransportRequest, signal: AbortSignal): Promise<Answer> {
    const { method, path, query, headers, body, timeoutMs } = request;
    const fullPath = this.#pathPrefix + path + query;
    const fullHeaders = { ...headers, ":method": method, ":path": fullPath };
    let stream: ClientHttp2Stream;
    try {
      stream = this.#session.request(fullHeaders, { endStream: body === undefined, signal });
    } catch (cause) {
      throw new UntouchedError("the connection was closing", { cause });
    }
    const answered = Promise.withResolvers<Answer>();
    const timer = setTimeout(() => {
      stream.destroy(new Error(`no answer within ${timeoutMs} ms`));
    }, timeoutMs);
    stream.once("response", (received) => {
      answered.resolve({ status: received[":status"] ?? 0, headers: received, stream });
    });
    // Stays for the stream's life: a fault after the headers is the reader's to see, in its own way.
    stream.on("error", (error) => answered.reject(this.#streamFault(stream, error)));
    stream.once("close", () => answered.reject(this.#streamFault(stream, undefined)));
    if (body !== undefined) stream.end(body);
    try {
      return await answered.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  async end(): Promise<void> {
    this.#session.destroy();
    await this.closed;
  }

  #streamFault(stream: ClientHttp2Stream, cause: Error | undefined): Error {
    if (stream.rstCode === constants.NGHTTP2_REFUSED_STREAM) {
      return new UntouchedError("the server refused the stream", { cause });
    }
    return this.#fault ?? cause ?? new Error("the connection was lost");
  }

  #attend(timing: TransportTiming, log: Log): void {
    const session = this.#session;
    const connecting = setTimeout(() => {
      session.destroy(new Error(`no connection within ${timing.connectTimeoutMs} ms`));
    }, timing.connectTimeoutMs);
    let pinging: NodeJS.Timeout | undefined;
    session.once("connect", () => {
      if (session.destroyed) return; // Ended in the meantime; Node says both.
      clearTimeout(connecting);
      session.setLocalWindowSize(sessionWindowBytes);
      pinging = this.#keepAlive(timing);
      this.#ready.resolve();
      log.debug("connected to the API server");
    });
    session.on("error", (error: Error) => {
      this.#fault ??= error;
    });
    session.on("goaway", (code) => {
      this.isGoingAway = true;
      log.debug("API server ends the connection", { code });
    });
    session.once("close", () => {
      clearTimeout(connecting);
      clearInterval(pinging);
      this.#ready.reject(this.#fault ?? new Error("the connection was lost"));
      this.#closed.resolve();
      log.debug("connection to the API server closed", { error: this.#fault });
    });
  }

  /** Finds a connection that is open on this side only: no FIN ever comes from a cut link. */
  #keepAlive({ pingIntervalMs, pingTimeoutMs }: TransportTiming): NodeJS.Timeout {
    const session = this.#session;
    let deadline: NodeJS.Timeout | undefined;
    const interval = setInterval(() => {
      if (deadline !== undefined || session.destroyed) return;
      const { socket } = session;
      const receivedBytes = socket.bytesRead;
      deadline = setTimeout(() => {
        deadline = undefined;
        // A large answer on a slow link can hold up the reply; it is a sign of life itself.
        if (session.destroyed || socket.bytesRead > receivedBytes) return;
        session.destroy(new Error(`no sign of life within ${pingTimeoutMs} ms`));
      }, pingTimeoutMs).unref();
      session.ping(() => {
        clearTimeout(deadline);
        deadline = undefined;
      });
    }, pingIntervalMs);
    return interval.unref();
  }
}

/** Waits for a promise, or until `signal` aborts; the promise itself goes on. */
async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  using _ = addAbortListener(signal, () => aborted.reject(signal.reason));
  return await Promise.race([promise, aborted.promise]);
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : "the connection was lost";
}
