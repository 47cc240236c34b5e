// The proxy before the sandbox's registries and their token realm. It runs inside the control plane's network namespace,
// notes every request and makes faults happen as its control socket says.
import { once } from "node:events";
import {
  Agent,
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import { Readable, Transform, type TransformCallback } from "node:stream";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";

import { controlPlaneAddress } from "#sandbox/layout.ts";
import { upstreamHosts, type UpstreamHost } from "#sandbox/registry-hosts.ts";
import { findFault, type Fault, type RequestRecord } from "./fault.ts";
import { loginOfForm, loginOfHeader } from "./login.ts";
import { Quota, subjectOf, type Ticket } from "./quota.ts";

/** Older requests are forgotten: enough for any test, and a bound for a sandbox that stays up. */
const maxRecords = 50_000;

const [, , controlSocket] = process.argv;
if (!controlSocket) throw new Error("Usage: main.ts CONTROL_SOCKET");

let faults: Fault[] = [];
let records: RequestRecord[] = [];
const quotas = new WeakMap<Fault, Quota>();
const backends = new Agent({ keepAlive: true });
const listeners = new Map<UpstreamHost, Server>();

await applyRefusals();
const controls = createServer((request, response) => void control(request, response));
await once(controls.listen(controlSocket), "listening");

/** Opens or closes each host's address, as the faults of kind `refuse` say. */
async function applyRefusals(): Promise<void> {
  for (const upstream of upstreamHosts) {
    const refuses = faults.some(
      ({ kind, host }) => kind === "refuse" && (host ?? upstream.host) === upstream.host,
    );
    const listener = listeners.get(upstream);
    if (refuses && listener) {
      listeners.delete(upstream);
      listener.close();
      listener.closeAllConnections();
      await once(listener, "close");
    } else if (!refuses && !listener) {
      const opened = createServer((request, response) => void proxy(upstream, request, response));
      opened.requestTimeout = 0;
      listeners.set(upstream, opened);
      await once(opened.listen(upstream.port, controlPlaneAddress), "listening");
    }
  }
}

async function proxy(
  upstream: UpstreamHost,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { method = "GET", url: path = "/" } = request;
  const fault = findFault(faults, { host: upstream.host, method, path });
  if (fault?.times !== undefined) fault.times--;
  const form = isForm(request) ? await text(request).catch(() => "") : undefined;
  const login =
    loginOfHeader(request.headers.authorization) ?? loginOfForm(new URLSearchParams(form));
  const ticket = fault && ticketOf(fault, subjectOf(login));
  const record: RequestRecord = {
    time: Date.now(),
    from: request.socket.remoteAddress ?? "",
    host: upstream.host,
    method,
    path,
    ...(login && { login }),
    status: 0,
    sentBytes: 0,
    ...(fault && !ticket?.isGranted && { fault: fault.kind }),
  };
  response.once("close", () => (record.endTime = Date.now()));
  records.push(record);
  if (records.length > maxRecords) records = records.slice(-maxRecords / 2);
  if (fault?.kind === "silence") return;
  if (fault?.kind === "status") {
    record.status = fault.status;
    request.resume();
    response.writeHead(fault.status, fault.headers).end(fault.body ?? "");
    return;
  }
  if (ticket?.isGranted === false) {
    record.status = 429;
    request.resume();
    const errors = [{ code: "TOOMANYREQUESTS", message: "too many requests" }];
    const type = { "content-type": "application/json" };
    response.writeHead(429, { ...type, ...ticket.headers }).end(JSON.stringify({ errors }));
    return;
  }
  try {
    const backend = httpRequest({
      host: controlPlaneAddress,
      port: upstream.backendPort,
      method,
      path,
      headers: request.headers, // The host stays: a registry makes its upload addresses from it.
      agent: backends,
    });
    const answered = once(backend, "response");
    await Promise.all([
      pipeline(form === undefined ? request : Readable.from([form]), backend),
      answered,
    ]);
    const [answer]: IncomingMessage[] = await answered;
    if (!answer) throw new Error("No answer");
    record.status = answer.statusCode ?? 0;
    const isCounted = record.status !== 401;
    if (!isCounted) ticket?.giveBack();
    const added = isCounted ? Object.entries(ticket?.headers ?? {}).flat() : [];
    response.writeHead(record.status, [...answer.rawHeaders, ...added]);
    await pipeline(answer, new FaultyBody(record, fault, response), response);
  } catch {
    response.destroy();
  }
}

/** Counts a request that a quota concerns. */
function ticketOf(fault: Fault, who: string): Ticket | undefined {
  if (fault.kind !== "quota") return undefined;
  const quota = quotas.get(fault) ?? new Quota(fault);
  quotas.set(fault, quota);
  return quota.take(who, Date.now());
}

/** Whether a request's body may hold a login: a client of a token realm sends a form. */
function isForm({ headers }: IncomingMessage): boolean {
  return headers["content-type"]?.startsWith("application/x-www-form-urlencoded") ?? false;
}

/** Passes a body on, counts its bytes, and does to it what a fault says. */
class FaultyBody extends Transform {
  readonly #record: RequestRecord;
  readonly #fault: Fault | undefined;
  readonly #response: ServerResponse;

  constructor(record: RequestRecord, fault: Fault | undefined, response: ServerResponse) {
    super();
    this.#record = record;
    this.#fault = fault;
    this.#response = response;
  }

  override _transform(chunk: Buffer, _: BufferEncoding, done: TransformCallback): void {
    // A fault that was ended while the body is on its way ends for the rest of it.
    const fault = this.#fault && faults.includes(this.#fault) ? this.#fault : undefined;
    const record = this.#record;
    const left = fault && "afterBytes" in fault ? fault.afterBytes - record.sentBytes : Infinity;
    const part = chunk.subarray(0, Math.max(0, left));
    record.sentBytes += part.length;
    if (fault?.kind === "slow") {
      void sleep((part.length / fault.bytesPerSecond) * 1000).then(() => done(null, part));
    } else if (fault?.kind === "corrupt") {
      done(
        null,
        part.map((byte) => byte ^ 0xff),
      );
    } else if (part.length === chunk.length) {
      done(null, part);
    } else {
      this.push(part);
      // A stall simply never asks for more.
      if (fault?.kind === "reset") setImmediate(() => this.#response.socket?.resetAndDestroy());
    }
  }
}

/** `GET /requests` lists, `DELETE /requests` forgets, `PUT /faults` replaces all faults. */
async function control(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const route = `${request.method} ${request.url}`;
  if (route === "GET /requests") {
    response.setHeader("content-type", "application/json").end(JSON.stringify(records));
  } else if (route === "DELETE /requests") {
    records = [];
    response.writeHead(204).end();
  } else if (route === "PUT /faults") {
    const body = Buffer.concat(await Array.fromAsync(request)).toString();
    faults = JSON.parse(body);
    await applyRefusals();
    response.writeHead(204).end();
  } else {
    response.writeHead(404).end();
  }
}
