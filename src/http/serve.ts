import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";

export interface ServeOptions {
  /** 0 takes any free port. */
  port: number;
  /** The address to listen on; every one, if not given. */
  host?: string;
  /** The largest request body, in bytes. 0 refuses all bodies. */
  maxBodyBytes?: number;
  /** Longest wait for a request to arrive in full, in milliseconds. */
  requestTimeoutMs?: number;
  /** How long open requests may go on once the server is disposed, in milliseconds. */
  closeTimeoutMs?: number;
}

/** A server that listens. */
export interface Serving extends AsyncDisposable {
  readonly port: number;
  /** Refuses new connections, and waits for open requests until `closeTimeoutMs`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** Far more than probes, scrapes and webhooks send, and no room for an attack. */
const maxHeaderBytes = 16_384;
const maxConnections = 512;

/** Starts listening. @throws the system's error if the address cannot be had. */
export async function serve(handler: RequestListener, options: ServeOptions): Promise<Serving> {
  const { port, host, requestTimeoutMs = 10_000, closeTimeoutMs = 5_000 } = options;
  const { maxBodyBytes = 0 } = options;
  const server = createServer(
    {
      maxHeaderSize: maxHeaderBytes,
      headersTimeout: requestTimeoutMs,
      requestTimeout: requestTimeoutMs,
      connectionsCheckingInterval: Math.min(requestTimeoutMs, 1_000),
    },
    limitBody(handler, maxBodyBytes),
  );
  server.maxConnections = maxConnections;
  let isClosing = false;
  server.on("request", (_request, response) => {
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
      isClosing = true;
      const timer = setTimeout(() => server.closeAllConnections(), closeTimeoutMs);
      await server[Symbol.asyncDispose]().finally(() => clearTimeout(timer));
    },
  };
}

function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === "string") {
    throw new TypeError("The server must listen on a port");
  }
  return address.port;
}

/** Refuses a body that is too large, or of unknown size, before any of it is read. */
function limitBody(handler: RequestListener, maxBodyBytes: number): RequestListener {
  return (request, response) => {
    const isChunked = request.headers["transfer-encoding"] !== undefined;
    const isTooLarge = Number(request.headers["content-length"] ?? 0) > maxBodyBytes;
    if (!isChunked && !isTooLarge) {
      handler(request, response);
      return;
    }
    response.writeHead(isTooLarge ? 413 : 411, { connection: "close" });
    response.end(() => request.destroy()); // Node would read what is left of the body otherwise.
  };
}
