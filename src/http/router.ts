import type {
  IncomingHttpHeaders,
  IncomingMessage,
  RequestListener,
  ServerResponse,
} from "node:http";

import { countBrackets } from "#json/json.ts";
import type { Log } from "#telemetry/log.ts";
import { BodyTooLargeError, readBody } from "./body.ts";
import { ByteBudget, OverBudgetError } from "./byte-budget.ts";

/** What a route answers. */
export interface Reply {
  /** 200 if not given. */
  readonly status?: number;
  /** Plain text if not given. */
  readonly contentType?: string;
  readonly body: string;
}

/** Answers GET and HEAD. */
export type GetRoute = () => Reply | Promise<Reply>;

/** A request that came with a JSON body. */
export interface PostRequest {
  /** What the JSON says: nothing of it has been checked. */
  readonly body: unknown;
  /** Names in lower case. */
  readonly headers: IncomingHttpHeaders;
  /** Aborted when the route's time is up, or when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
}

/** Answers POST. What it throws becomes the status 500; a refusal is a reply. */
export type PostRoute = (request: PostRequest) => Promise<Reply>;

/** What there is of a request before its body. */
export interface RequestHead {
  /** Names in lower case. */
  readonly headers: IncomingHttpHeaders;
  /** The address at the other end of the connection. */
  readonly remoteAddress: string;
}

/** Looks at who asks before anything of the body is read. @returns the refusal, or what answers them. */
export type Admit = (head: RequestHead) => Promise<Reply | PostRoute>;

interface PostLimits {
  /** The largest body, in bytes. The server's own limit applies as well. */
  readonly maxBodyBytes?: number;
  /** Longest wait for the body and the answer together, in milliseconds. */
  readonly timeoutMs?: number;
}

/** A route for POST, with its limits: for whoever asks, or for those whom it admits. */
export type PostEntry = PostLimits & ({ readonly post: PostRoute } | { readonly admit: Admit });

/** Answers by exact path: a function to GET and HEAD, an entry to POST. */
export type Routes = Readonly<Record<string, GetRoute | PostEntry>>;

const defaultMaxBodyBytes = 1 << 20;

/** Bodies of all connections that are being read. */
const maxBytesInFlight = 64 << 20;

/** Objects and lists in a body. More take seconds to parse, while everybody else waits. */
const maxBrackets = 100_000;
const defaultTimeoutMs = 10_000;

/** The largest body that a refused client may send to keep its connection. */
const maxDrainedBytes = 64 << 10;

/**
 * Makes a request listener of a few routes. What a route throws is logged, and the client learns
 * nothing of it but the status 500.
 */
export function router(routes: Routes, log: Log): RequestListener {
  const budget = new ByteBudget(maxBytesInFlight);

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<Reply> {
    const { method, url = "" } = request;
    const [path = ""] = url.split("?", 1);
    const route = Object.hasOwn(routes, path) ? routes[path] : undefined;
    if (!route) return { status: 404, body: "not found\n" };
    try {
      if (typeof route !== "function") return await post(route, request, response, budget);
      if (method === "GET" || method === "HEAD") return await route();
      return { status: 405, body: `only ${readMethods}\n` };
    } catch (error) {
      if (error instanceof Refusal) return { status: error.status, body: `${error.message}\n` };
      // A client that has left has aborted the route, which is nobody's fault.
      log[response.destroyed ? "debug" : "error"]("request failed", { path, error });
      return { status: 500, body: "failed\n" };
    }
  }

  async function respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const reply = await answer(request, response);
    const { status = 200, contentType = "text/plain; charset=utf-8", body } = reply;
    // Node reads what is left of a body. A client that was refused need not send much for that.
    const isCutOff = !request.readableEnded && !isSmall(request);
    response.writeHead(status, {
      "content-type": contentType,
      "content-length": Buffer.byteLength(body),
      "cache-control": "no-store",
      "x-content-type-options": "nosniff",
      ...(status === 405 && { allow: request.method === "POST" ? readMethods : "POST" }),
      ...(isCutOff && { connection: "close" }),
    });
    // Node leaves the body out of the answer to HEAD.
    response.end(body, () => isCutOff && request.destroy());
  }

  return (request, response) => void respond(request, response);
}

const readMethods = "GET, HEAD";

/** A request is answered with a status and a line, and nobody needs to look into it. */
class Refusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

async function post(
  entry: PostEntry,
  request: IncomingMessage,
  response: ServerResponse,
  budget: ByteBudget,
): Promise<Reply> {
  const { maxBodyBytes = defaultMaxBodyBytes, timeoutMs = defaultTimeoutMs } = entry;
  const { method, headers, socket } = request;
  if (method !== "POST") throw new Refusal(405, "only POST");
  if (!isJson(headers)) throw new Refusal(415, "must be application/json");
  const stop = new AbortController();
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    late.reject(new Refusal(504, `no answer within ${timeoutMs} ms`));
    stop.abort(new DOMException("The request took too long", "TimeoutError"));
  }, timeoutMs);
  const leave = (): void => stop.abort(new Error("The client has left"));
  response.once("close", leave);
  try {
    const answer = async (): Promise<Reply> => {
      const head = { headers, remoteAddress: socket.remoteAddress ?? "" };
      const route = "admit" in entry ? await entry.admit(head) : entry.post;
      if (typeof route !== "function") return route;
      const body = await readJson(request, { maxBodyBytes, budget });
      return route({ body, headers, signal: stop.signal });
    };
    return await Promise.race([answer(), late.promise]);
  } finally {
    clearTimeout(timer);
    response.off("close", leave);
  }
}

async function readJson(
  request: IncomingMessage,
  { maxBodyBytes, budget }: { maxBodyBytes: number; budget: ByteBudget },
): Promise<unknown> {
  let text: string;
  using share = budget.open();
  try {
    // The connection is still needed, to tell what is wrong.
    const chunks = share.count(request.iterator({ destroyOnReturn: false }));
    text = await readBody(chunks, maxBodyBytes);
  } catch (error) {
    if (error instanceof OverBudgetError) throw new Refusal(503, "too many bodies, try again");
    if (!(error instanceof BodyTooLargeError)) throw new Refusal(400, "the body ended early");
    throw new Refusal(413, error.message);
  }
  if (countBrackets(text) > maxBrackets) throw new Refusal(413, "the body nests too much");
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new Refusal(400, "the body must be JSON");
  }
}

function isJson({ "content-type": type = "" }: IncomingHttpHeaders): boolean {
  const [essence = ""] = type.split(";", 1);
  return essence.trim().toLowerCase() === "application/json";
}

/** Whether a body is known to be so small that reading it costs less than another connection. */
function isSmall({ headers }: IncomingMessage): boolean {
  const { "transfer-encoding": coding, "content-length": length = 0 } = headers;
  return coding === undefined && Number(length) <= maxDrainedBytes;
}
