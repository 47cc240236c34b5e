import { Agent, request, type Dispatcher } from "undici";
import { Deadline } from "#async/deadline.ts";
import type { Log } from "#telemetry/log.ts";
import { AddressNotAllowedError, guardedConnector } from "./connect.ts";
import type { NetworkPolicy } from "./network-policy.ts";
import { RegistryError } from "./registry-error.ts";

const maxRedirects = 5;

/** Longest wait for name, TCP and TLS together, if the whole request may take longer. */
const connectTimeoutMs = 10_000;

/** How much of a refusal is read: OCI errors are short. */
const maxRefusalBytes = 64 * 1024;

export interface TransportOptions {
  readonly userAgent: string;
  readonly log: Log;
  readonly network: NetworkPolicy;
  readonly ca: string | undefined;
  /** Longest wait for the whole of an answer, redirects included. */
  readonly timeoutMs: number;
}

export interface TransportRequest {
  readonly method: "GET" | "HEAD" | "POST";
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  /** Goes to the origin of `url` alone, wherever that redirects to. */
  readonly authorization: string | undefined;
  readonly body?: string;
  /** Largest body of a successful answer. */
  readonly limitBytes: number;
}

export interface Answer {
  readonly status: number;
  /** Its values joined, if a header came more than once. */
  readonly header: (name: string) => string | undefined;
  readonly body: Buffer;
  /** Who answered, after all redirects. */
  readonly url: URL;
}

interface Scope {
  /** What is tried, like `resolve "ghcr.io/a/b:1"`, for errors. */
  readonly act: string;
  readonly signal: AbortSignal;
}

/** Sends HTTP/1.1 requests to registries and token realms, within limits of time, size and place. */
export class Transport implements AsyncDisposable {
  readonly #options: TransportOptions;
  readonly #agent: Agent;

  constructor(options: TransportOptions) {
    const { network, ca, timeoutMs } = options;
    this.#options = options;
    this.#agent = new Agent({
      connect: guardedConnector({ network, ca, timeoutMs: Math.min(timeoutMs, connectTimeoutMs) }),
      // One deadline goes for headers and body together.
      headersTimeout: 0,
      bodyTimeout: 0,
    });
  }

  /**
   * Sends a request, follows redirects, and reads the answer to its end, whatever its status.
   *
   * A POST is not redirected: it has a login in its body. HTTPS never leads to plain HTTP.
   *
   * @throws {RegistryError} `UNREACHABLE`, `BAD_ANSWER` or `NOT_ALLOWED`.
   * @throws the signal's reason, if aborted.
   */
  async send(request: TransportRequest, { act, signal }: Scope): Promise<Answer> {
    signal.throwIfAborted();
    const { timeoutMs } = this.#options;
    using deadline = new Deadline(timeoutMs, signal);
    try {
      return await this.#follow(request, { act, signal: deadline.signal });
    } catch (cause) {
      signal.throwIfAborted();
      if (cause instanceof RegistryError) throw cause;
      if (cause instanceof AddressNotAllowedError) {
        const reason = "its host has an address that Coral may not connect to";
        throw new RegistryError("NOT_ALLOWED", reason, { act, cause });
      }
      const reason = deadline.hasPassed ? `no answer within ${timeoutMs} ms` : faultOf(cause);
      throw new RegistryError("UNREACHABLE", reason, { act, cause });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.destroy();
  }

  async #follow(first: TransportRequest, scope: Scope): Promise<Answer> {
    let { url, authorization } = first;
    for (let redirects = 0; ; redirects++) {
      const answer = await this.#exchange({ ...first, url, authorization }, scope);
      const isRedirect = [301, 302, 303, 307, 308].includes(answer.status);
      if (!isRedirect || first.method === "POST") return answer;
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
    const { method, url, authorization, body, limitBytes } = wanted;
    const { userAgent, log } = this.#options;
    const answer = await request(url, {
      dispatcher: this.#agent,
      method,
      headers: {
        ...wanted.headers,
        "user-agent": userAgent,
        ...(authorization !== undefined && { authorization }),
      },
      ...(body !== undefined && { body }),
      signal,
    });
    const status = answer.statusCode;
    log.debug("registry asked", { registry: url.host, method, status });
    const isSuccess = status >= 200 && status < 300;
    const content = await readBody(answer.body, isSuccess ? limitBytes : maxRefusalBytes);
    if (!content && isSuccess) {
      throw new RegistryError("BAD_ANSWER", `it sends more than ${limitBytes} bytes`, { act });
    }
    const header = (name: string): string | undefined => {
      const value = answer.headers[name];
      return typeof value === "object" ? value.join(", ") : value;
    };
    return { status, header, body: content ?? Buffer.alloc(0), url };
  }
}

/** Reads a body to its end; `undefined` if that is past the limit. */
async function readBody(
  body: Dispatcher.ResponseData["body"],
  limitBytes: number,
): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of body) {
    const bytes: Buffer = chunk;
    sizeBytes += bytes.length;
    if (sizeBytes > limitBytes) return undefined; // Leaving the loop closes the connection.
    chunks.push(bytes);
  }
  return Buffer.concat(chunks, sizeBytes);
}

function redirectTarget({ header, url }: Answer, act: string): URL {
  const target = URL.parse(header("location") ?? "", url);
  if (header("location") === undefined || !target || !/^https?:$/.test(target.protocol)) {
    throw new RegistryError("BAD_ANSWER", "it redirects to no HTTP address", { act });
  }
  if (target.username !== "" || target.password !== "") {
    throw new RegistryError("BAD_ANSWER", "it redirects to an address with a login", { act });
  }
  if (url.protocol === "https:" && target.protocol === "http:") {
    throw new RegistryError("NOT_ALLOWED", "it redirects from HTTPS to plain HTTP", { act });
  }
  return target;
}

/** What went wrong, in words that come from this machine alone. */
const faults: ReadonlyMap<unknown, string> = new Map([
  ["ENOTFOUND", "its host name is not known"],
  ["EAI_AGAIN", "its host name cannot be resolved now"],
  ["ECONNREFUSED", "it refuses connections"],
  ["UND_ERR_CONNECT_TIMEOUT", "it takes no connection in time"],
  ["ECONNRESET", "the connection was lost"],
  ["UND_ERR_SOCKET", "the connection was lost"],
]);

function faultOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  const known = faults.get(code);
  if (known !== undefined) return known;
  return typeof code === "string" ? `the connection failed (${code})` : "the connection failed";
}
