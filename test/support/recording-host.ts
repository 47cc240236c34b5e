import { once } from "node:events";
import { createServer, type RequestListener, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

/** A request as a host saw it. */
export interface SeenRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly authorization: string | undefined;
  readonly accept: string | undefined;
  readonly body: string;
}

/** Answers a request, or leaves it open. */
export type Respond = (request: SeenRequest, response: ServerResponse) => void;

/** A real HTTP server on loopback that does what a test wants and remembers what it was shown. */
export class RecordingHost implements AsyncDisposable {
  readonly #server: Server;
  readonly #name: string;
  readonly #scheme: string;

  /** Every request so far. */
  readonly requests: SeenRequest[] = [];

  /** What it answers. */
  respond: Respond;

  private constructor(respond: Respond, tls: { cert: string; key: string } | undefined) {
    this.respond = respond;
    const listener: RequestListener = (request, response) => {
      void text(request).then((body) => {
        const { authorization, accept } = request.headers;
        const { method = "", url: path = "" } = request;
        const seen = { method, path, authorization, accept, body };
        this.requests.push(seen);
        this.respond(seen, response);
      });
    };
    this.#server = tls ? createTlsServer(tls, listener) : createServer(listener);
    this.#scheme = tls ? "https" : "http";
    this.#name = tls ? "localhost" : "127.0.0.1";
  }

  /** Starts a host: `127.0.0.1` with plain HTTP, or `localhost` with a certificate for that name. */
  static async start(
    respond: Respond,
    tls?: { cert: string; key: string },
  ): Promise<RecordingHost> {
    const host = new RecordingHost(respond, tls);
    host.#server.listen(0, "127.0.0.1");
    await once(host.#server, "listening");
    return host;
  }

  /** Name and port. */
  get host(): string {
    return `${this.#name}:${this.port}`;
  }

  get port(): number {
    return addressOf(this.#server).port;
  }

  get origin(): string {
    return `${this.#scheme}://${this.host}`;
  }

  /** The `Authorization` headers that it was shown, each once. */
  get authorizations(): string[] {
    return [...new Set(this.requests.flatMap(({ authorization }) => authorization ?? []))];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await this.#server[Symbol.asyncDispose]();
  }
}

/** Ends an answer with a JSON value as its body. */
export function respondJson(
  response: ServerResponse,
  status: number,
  value: unknown,
  headers: Readonly<Record<string, string | string[]>> = {},
): void {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(value));
}

function addressOf(server: Server): AddressInfo {
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("The host does not listen");
  return address;
}
