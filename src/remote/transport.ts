import { addAbortListener } from "node:events";
import type { Readable } from "node:stream";

import { Agent, request, type Dispatcher } from "undici";
import { Deadline } from "#async/deadline.ts";
import type { Log } from "#telemetry/log.ts";
import {
  AddressNotAllowedError,
  guardedConnector,
  proxyDispatcher,
  refusedAddress,
  type ConnectOptions,
  type TlsSettings,
} from "./connect.ts";
import { IdleWatch, WatchedBody } from "./idle-watch.ts";
import type { NetworkPolicy } from "./network-policy.ts";
import { proxyFor, type ProxySettings } from "./proxy.ts";
import { faultOf, headerReader, readBody, redirectTarget, type Answer } from "./answer.ts";
import { RegistryError } from "./registry-error.ts";
import { ResponseStream } from "./response-stream.ts";

const maxRedirects = 5;

/** Longest wait for name, TCP and TLS together, if the whole request may take longer. */
const connectTimeoutMs = 10_000;

/** How much of a refusal is read: OCI errors are short. */
const maxRefusalBytes = 64 * 1024;

/** For undici: whoever sends a request has an eye on the time. */
const noTimeouts = { headersTimeout: 0, bodyTimeout: 0 };

export interface TransportOptions {
  readonly userAgent: string;
  readonly log: Log;
  readonly network: NetworkPolicy;
  readonly tls: TlsSettings;
  readonly proxies?: ProxySettings | undefined;
  /** Longest wait for the whole of an answer, redirects included; of a streamed one for its head. */
  readonly timeoutMs: number;
  /** Longest wait for the next bytes of a stream to come or go. */
  readonly idleTimeoutMs: number;
}

export interface TransportRequest {
  readonly method: "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  /** Goes to the origin of `url` alone, wherever that redirects to. */
  readonly authorization: string | undefined;
  readonly body?: string | Buffer | StreamedBody;
  /** Largest body of a successful answer. */
  readonly limitBytes: number;
}

/** A body that is sent as it is read. A chunk is not looked at after the next one was asked for. */
export interface StreamedBody {
  readonly chunks: AsyncIterable<Buffer>;
  readonly sizeBytes: number;
}

/** An answer whose body, in case of success, is yet to be read or closed. */
export interface OpenAnswer extends Answer {
  readonly stream: ResponseStream | undefined;
}

interface Scope {
  /** What is tried, like `resolve "ghcr.io/a/b:1"`, for errors. */
  readonly act: string;
  readonly signal: AbortSignal;
}

/** Sends HTTP/1.1 requests to registries and token realms, within limits of time, size and place. */
export class Transport implements AsyncDisposable {
  readonly #options: TransportOptions;
  readonly #direct: Agent;
  readonly #proxied = new Map<string, Dispatcher>();

  constructor(options: TransportOptions) {
    this.#options = options;
    this.#direct = new Agent({ connect: guardedConnector(this.#connectOptions()), ...noTimeouts });
  }

  /**
   * Sends a request, follows redirects, and reads the answer to its end, whatever its status.
   *
   * What is not a GET or HEAD is not redirected: it may have a login in its body. HTTPS never leads to
   * plain HTTP.
   *
   * @throws {RegistryError} `UNREACHABLE`, `BAD_ANSWER` or `NOT_ALLOWED`.
   * @throws what the body throws that is sent.
   * @throws the signal's reason, if aborted.
   */
  async send(request: TransportRequest, { act, signal }: Scope): Promise<Answer> {
    signal.throwIfAborted();
    const { timeoutMs, idleTimeoutMs } = this.#options;
    const { body } = request;
    if (typeof body === "object" && "chunks" in body) {
      using watch = new IdleWatch(idleTimeoutMs, signal);
      const watched = new WatchedBody(body.chunks, watch);
      const streamed = { ...request, body: { ...body, chunks: watched } };
      try {
        return await this.#exchange(streamed, { act, signal: watch.signal });
      } catch (cause) {
        if (watched.fault && !signal.aborted) throw watched.fault.error;
        throw this.#translate(cause, { act, signal }, watch.hasPassed && idleTimeoutMs);
      }
    }
    using deadline = new Deadline(timeoutMs, signal);
    const scope = { act, signal: deadline.signal };
    try {
      return await this.#follow(request, scope, (wanted) => this.#exchange(wanted, scope));
    } catch (cause) {
      throw this.#translate(cause, { act, signal }, deadline.hasPassed && timeoutMs);
    }
  }

  /**
   * Sends a GET, follows redirects, and leaves the body of a successful answer to the caller, who must
   * read or close it.
   *
   * @throws as {@link send}.
   */
  async open(request: TransportRequest, { act, signal }: Scope): Promise<OpenAnswer> {
    signal.throwIfAborted();
    const { timeoutMs } = this.#options;
    using deadline = new Deadline(timeoutMs, signal);
    const scope = { act, signal: deadline.signal };
    try {
      return await this.#follow(request, scope, (wanted) => this.#openOne(wanted, scope));
    } catch (cause) {
      throw this.#translate(cause, { act, signal }, deadline.hasPassed && timeoutMs);
    }
  }

  /**
   * Yields the body of an opened answer as it arrives, as many chunks as there are, and closes it when
   * the loop is left.
   *
   * @param held - disposed then.
   * @throws as {@link send}.
   */
  async *read(
    stream: ResponseStream,
    { act, signal }: Scope,
    held?: Disposable,
  ): AsyncGenerator<readonly Buffer[], void> {
    const { idleTimeoutMs } = this.#options;
    using _held = held;
    using watch = new IdleWatch(idleTimeoutMs, signal);
    using _ = addAbortListener(watch.signal, () => stream.close(watch.signal.reason));
    try {
      for (;;) {
        watch.begin();
        const chunks = await stream.take();
        watch.pause();
        if (!chunks) return;
        yield chunks;
      }
    } catch (cause) {
      throw this.#translate(cause, { act, signal }, watch.hasPassed && idleTimeoutMs);
    } finally {
      stream.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#direct, ...this.#proxied.values()].map((agent) => agent.destroy()));
  }

  #connectOptions(): ConnectOptions {
    const { network, tls, timeoutMs } = this.#options;
    return { network, tls, timeoutMs: Math.min(timeoutMs, connectTimeoutMs) };
  }

  #dispatcherFor(url: URL): Dispatcher {
    const proxy = proxyFor(url, this.#options.proxies);
    if (!proxy) return this.#direct;
    const refusal = refusedAddress(url.hostname, this.#options.network);
    if (refusal) throw refusal;
    return this.#proxied.getOrInsertComputed(proxy.href, () =>
      proxyDispatcher(proxy, this.#connectOptions(), noTimeouts),
    );
  }

  #translate(cause: unknown, { act, signal }: Scope, waitedMs: number | false): unknown {
    signal.throwIfAborted();
    if (cause instanceof RegistryError) return cause;
    if (cause instanceof AddressNotAllowedError) {
      const reason = "its host has an address that Coral may not connect to";
      return new RegistryError("NOT_ALLOWED", reason, { act, cause });
    }
    const reason = waitedMs === false ? faultOf(cause) : `no answer within ${waitedMs} ms`;
    return new RegistryError("UNREACHABLE", reason, { act, cause });
  }

  async #follow<A extends Answer>(
    first: TransportRequest,
    scope: Scope,
    exchange: (request: TransportRequest) => Promise<A>,
  ): Promise<A> {
    let { url, authorization } = first;
    for (let redirects = 0; ; redirects++) {
      const answer = await exchange({ ...first, url, authorization });
      const isRedirect = [301, 302, 303, 307, 308].includes(answer.status);
      if (!isRedirect || (first.method !== "GET" && first.method !== "HEAD")) return answer;
      if (redirects === maxRedirects) {
        throw new RegistryError(
          "BAD_ANSWER",
          `it redirects more than ${maxRedirects} times`,
          scope,
        );
      }
      const target = redirectTarget(answer, scope.act);
      if (target.origin !== url.origin) authorization = undefined; // For all that follows.
      url = target;
    }
  }

  async #exchange(wanted: TransportRequest, { act, signal }: Scope): Promise<Answer> {
    const { method, url, body, limitBytes } = wanted;
    const isStreamed = typeof body === "object" && "chunks" in body;
    const answer = await request(url, {
      dispatcher: this.#dispatcherFor(url),
      method,
      headers: {
        ...this.#headersOf(wanted),
        ...(isStreamed && { "content-length": String(body.sizeBytes) }),
      },
      ...(body !== undefined && { body: isStreamed ? undiciBody(body.chunks) : body }),
      ...(method === "HEAD" && { reset: false }), // Else undici closes the connection.
      signal,
    });
    const { statusCode: status, headers } = answer;
    this.#noteAnswer(wanted, status);
    const isSuccess = status >= 200 && status < 300;
    const content = await readBody(answer.body, isSuccess ? limitBytes : maxRefusalBytes);
    if (!content && isSuccess) {
      throw new RegistryError("BAD_ANSWER", `it sends more than ${limitBytes} bytes`, { act });
    }
    return { status, header: headerReader(headers), body: content ?? Buffer.alloc(0), url };
  }

  async #openOne(wanted: TransportRequest, { signal }: Scope): Promise<OpenAnswer> {
    const { method, url } = wanted;
    const stream = new ResponseStream();
    this.#dispatcherFor(url).dispatch(
      {
        origin: url.origin,
        path: url.pathname + url.search,
        method,
        headers: this.#headersOf(wanted),
      },
      stream,
    );
    try {
      const { status, headers } = await stream.head(signal);
      this.#noteAnswer(wanted, status);
      const answer = { status, header: headerReader(headers), url };
      if (status >= 200 && status < 300) return { ...answer, body: Buffer.alloc(0), stream };
      const body = await readBody(stream.chunks(signal), maxRefusalBytes);
      return { ...answer, body: body ?? Buffer.alloc(0), stream: undefined };
    } catch (error) {
      stream.close();
      throw error;
    }
  }

  #headersOf({ headers, authorization }: TransportRequest): Record<string, string> {
    return {
      ...headers,
      "user-agent": this.#options.userAgent,
      ...(authorization !== undefined && { authorization }),
    };
  }

  #noteAnswer({ method, url }: TransportRequest, status: number): void {
    this.#options.log.debug("registry asked", { registry: url.host, method, status });
  }
}

/** undici takes every AsyncIterable (its documentation of `request`); its types do not say so. */
function undiciBody(chunks: AsyncIterable<Buffer>): Readable {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- nothing else of it is used
  return chunks as Readable;
}
