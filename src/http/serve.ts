import { once } from "node:events";
import { createServer, type RequestListener, type Server, type ServerOptions } from "node:http";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";

export interface ServeOptions {
  /** 0 takes any free port. */
  port: number;
  /** The address to listen on; every one, if not given. */
  host?: string;
  /** The largest request body, in bytes. 0 refuses all bodies. */
  maxBodyBytes?: number;
  /** Longest wait for a request to arrive in full, in milliseconds. */
  requestTimeoutMs?: number;
  /**
   * How long the server still answers once it is disposed, in milliseconds, each answer the last of its
   * connection: a client that keeps connections may be sending into one just when it is closed. 0 if not
   * given.
   */
  lingerMs?: number;
  /** How long open requests may go on after that, in milliseconds. */
  closeTimeoutMs?: number;
  /** More connections than this at a time are cut off as they come. */
  maxConnections?: number;
}

/** A certificate and what proves it to be ours, both in PEM. */
export interface ServerCertificate {
  /** The certificate, with those between it and its CA after it. */
  readonly cert: string;
  readonly key: string;
}

/** Where a server's certificate comes from, and the one after it. */
export interface CertificateSource {
  /** `undefined` before there is one: until then no client gets a connection. */
  current(): ServerCertificate | undefined;
  /** Calls `listener` when `current` has become another. */
  onChange(listener: () => void): Disposable;
}

/** A server that listens. */
export interface Serving extends AsyncDisposable {
  readonly port: number;
  /** Refuses new connections, and waits for open requests until `closeTimeoutMs`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** Far more than probes, scrapes and webhooks send, and no room for an attack. */
const maxHeaderBytes = 16_384;
const defaultMaxConnections = 512;

/**
 * Longer than the 90 s after which Go's clients give up an idle connection. The other way round an
 * API server would now and then send into a connection that we are closing, and fail an admission.
 */
const keepAliveTimeoutMs = 120_000;

/** Starts listening. @throws the system's error if the address cannot be had. */
export async function serve(handler: RequestListener, options: ServeOptions): Promise<Serving> {
  const { maxBodyBytes = 0 } = options;
  return listen(createServer(limitsOf(options), limitBody(handler, maxBodyBytes)), options);
}

/**
 * Starts listening for HTTP/1.1 over TLS 1.2 or newer. When the source has another certificate,
 * new connections get that one, and those that are open stay.
 *
 * @throws the system's error if the address cannot be had.
 */
export async function serveTls(
  handler: RequestListener,
  { certificates, ...options }: ServeOptions & { certificates: CertificateSource },
): Promise<Serving> {
  const { maxBodyBytes = 0, requestTimeoutMs = defaultRequestTimeoutMs } = options;
  const server = createTlsServer(
    {
      ...limitsOf(options),
      keepAliveTimeout: keepAliveTimeoutMs,
      handshakeTimeout: requestTimeoutMs,
      ALPNProtocols: ["http/1.1"],
      minVersion,
    },
    limitBody(handler, maxBodyBytes),
  );
  present(server, certificates);
  const changes = certificates.onChange(() => present(server, certificates));
  try {
    const serving = await listen(server, options);
    return {
      port: serving.port,
      async [Symbol.asyncDispose]() {
        changes[Symbol.dispose]();
        await serving[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    changes[Symbol.dispose]();
    throw error;
  }
}

const minVersion = "TLSv1.2";
const defaultRequestTimeoutMs = 10_000;

function present(server: TlsServer, certificates: CertificateSource): void {
  const current = certificates.current();
  // Every call replaces all of the context: what is not said again is as Node has it.
  if (current) server.setSecureContext({ cert: current.cert, key: current.key, minVersion });
}

function limitsOf({ requestTimeoutMs = defaultRequestTimeoutMs }: ServeOptions): ServerOptions {
  return {
    maxHeaderSize: maxHeaderBytes,
    headersTimeout: requestTimeoutMs,
    requestTimeout: requestTimeoutMs,
    connectionsCheckingInterval: Math.min(requestTimeoutMs, 1_000),
  };
}

async function listen(server: Server | TlsServer, options: ServeOptions): Promise<Serving> {
  const { port, host, lingerMs = 0, closeTimeoutMs = 5_000 } = options;
  server.maxConnections = options.maxConnections ?? defaultMaxConnections;
  let isLeaving = false;
  let isClosing = false;
  // Before the handler, which may answer at once.
  server.prependListener("request", (_request, response) => {
    if (isLeaving) response.shouldKeepAlive = false;
    response.once("close", () => {
      // A client that keeps its connection must not hold us up once it has its answer.
      if (isClosing) server.closeIdleConnections();
    });
  });
  server.listen({ port, ...(host !== undefined && { host }) });
  await once(server, "listening");
  return {
    port: portOf(server),
    async [Symbol.asyncDispose]() {
      isLeaving = true;
      if (lingerMs > 0) await sleep(lingerMs);
      isClosing = true;
      const timer = setTimeout(() => server.closeAllConnections(), closeTimeoutMs);
      await server[Symbol.asyncDispose]().finally(() => clearTimeout(timer));
    },
  };
}

function portOf(server: Server | TlsServer): number {
  const address = server.address();
  if (address === null || typeof address === "string") {
    throw new TypeError("The server must listen on a port");
  }
  return address.port;
}

/**
 * Refuses a body that is too large before any of it is read. One of unknown length is left to the
 * handler, who must count, unless there is to be no body at all.
 */
function limitBody(handler: RequestListener, maxBodyBytes: number): RequestListener {
  return (request, response) => {
    const isChunked = request.headers["transfer-encoding"] !== undefined && maxBodyBytes === 0;
    const isTooLarge = Number(request.headers["content-length"] ?? 0) > maxBodyBytes;
    if (!isChunked && !isTooLarge) {
      handler(request, response);
      return;
    }
    response.writeHead(isTooLarge ? 413 : 411, { connection: "close" });
    response.end(() => request.destroy()); // Node would read what is left of the body otherwise.
  };
}
