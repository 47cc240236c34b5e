import { once } from "node:events";
import {
  createServer,
  request,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";

/** A request that went through, and how it was answered. */
export interface ProxiedRequest {
  readonly method: string;
  /** Without its query. */
  readonly path: string;
  readonly status: number;
}

interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** Stands before a registry with plain HTTP, and remembers what is asked of it. */
export class RecordingProxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #port: number;
  readonly #targetHost: string;
  readonly #name: string;

  /** Every request that was answered, in the order of the answers. */
  readonly requests: ProxiedRequest[] = [];

  /** Asked before a request goes on; whoever wants to hold it back does not resolve. */
  before: (method: string, path: string) => Promise<void> = async () => {};

  private constructor(target: string, tls: Certificate | undefined) {
    const [host = "", port = ""] = target.split(":");
    this.#targetHost = host;
    this.#port = Number(port);
    this.#name = tls ? "localhost" : "127.0.0.1";
    const listener: RequestListener = (incoming, response) => {
      // So that the registry leads the client back by the same way.
      if (tls) incoming.headers["x-forwarded-proto"] = "https";
      this.#pass(incoming, response).catch(() => response.destroy());
    };
    this.#server = tls ? createTlsServer(tls, listener) : createServer(listener);
  }

  /**
   * Starts a proxy: `127.0.0.1` with plain HTTP, or `localhost` with a certificate for that name.
   *
   * @param target - `host:port`.
   */
  static async start(target: string, tls?: Certificate): Promise<RecordingProxy> {
    const proxy = new RecordingProxy(target, tls);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get host(): string {
    return `${this.#name}:${addressOf(this.#server).port}`;
  }

  /** What was asked, as `GET /v2/…`, of the methods that are given; and forgets it. */
  take(...methods: string[]): string[] {
    const taken = this.requests.splice(0).filter(({ method }) => methods.includes(method));
    return taken.map(({ method, path }) => `${method} ${path}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await this.#server[Symbol.asyncDispose]();
  }

  async #pass(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "", url = "", headers } = incoming;
    const [path = ""] = url.split("?");
    await this.before(method, path);
    // With the client's own "host", so that the registry leads the client back here.
    const onward = request({
      host: this.#targetHost,
      port: this.#port,
      method,
      path: url,
      headers,
    });
    response.on("close", () => onward.destroy());
    incoming.on("error", () => onward.destroy());
    incoming.pipe(onward);
    const answer = await answerTo(onward);
    this.requests.push({ method, path, status: answer.statusCode ?? 0 });
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.on("error", () => response.destroy());
    answer.pipe(response);
  }
}

function answerTo(onward: ReturnType<typeof request>): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  onward.on("response", resolve);
  onward.on("error", reject);
  return promise;
}

function addressOf(server: Server): AddressInfo {
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("The proxy does not listen");
  return address;
}
