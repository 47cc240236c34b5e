import { Agent, request as send } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";

import { isJsonObject, parseJson, type JsonObject } from "#json/json.ts";

/** Connections of an API server to a webhook. More would only be idle. */
const maxSockets = 32;
const timeoutMs = 10_000;

/** Where a webhook is served. */
export interface WebhookHost {
  readonly port: number;
  readonly ca: string;
  readonly serverName: string;
}

/** What came of a stream of requests. */
export interface LoadResult {
  /** In milliseconds, from the start of a request to the end of its answer. */
  readonly latencies: readonly number[];
  /** Requests without an answer, or with another one than was to be expected. */
  readonly errors: number;
}

/**
 * Sends requests at a steady rate, whether or not those before have been answered.
 *
 * @param options.isExpected - judges the `response` of a review.
 */
export async function sendSteadily(
  host: WebhookHost,
  options: {
    path: string;
    bodies: readonly Buffer[];
    perSecond: number;
    seconds: number;
    isExpected: (response: JsonObject) => boolean;
    signal: AbortSignal;
  },
): Promise<LoadResult> {
  const { path, bodies, perSecond, seconds, isExpected, signal } = options;
  const { port, ca, serverName: servername } = host;
  const agent = new Agent({ keepAlive: true, maxSockets, ca, servername });
  const latencies: number[] = [];
  let errors = 0;
  const one = async (body: Buffer): Promise<void> => {
    const startMs = performance.now();
    try {
      const response = await post({ agent, port, path, body, signal });
      latencies.push(performance.now() - startMs);
      if (!isExpected(response)) errors++;
    } catch {
      signal.throwIfAborted();
      errors++;
    }
  };
  const running: Promise<void>[] = [];
  const startMs = performance.now();
  try {
    for (let index = 0; index < perSecond * seconds; index++) {
      const dueMs = startMs + (index * 1_000) / perSecond;
      const leftMs = dueMs - performance.now();
      if (leftMs > 0) await sleep(leftMs, undefined, { signal });
      const body = bodies[index % bodies.length];
      if (body) running.push(one(body));
    }
    await Promise.all(running);
  } finally {
    agent.destroy();
  }
  return { latencies, errors };
}

/** @returns the `response` of a review. @throws {Error} if the answer is something else. */
async function post(options: {
  agent: Agent;
  port: number;
  path: string;
  body: Buffer;
  signal: AbortSignal;
}): Promise<JsonObject> {
  const { agent, port, path, body, signal } = options;
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const request = send({
    agent,
    host: "127.0.0.1",
    port,
    path: `${path}?timeout=5s`,
    method: "POST",
    headers: { "content-type": "application/json", "content-length": body.length },
    timeout: timeoutMs,
    signal,
  });
  request.on("timeout", () => request.destroy(new Error("No answer in time")));
  request.on("error", reject);
  request.on("response", (response) => {
    const chunks: Buffer[] = [];
    response.on("data", (chunk: Buffer) => chunks.push(chunk));
    response.on("error", reject);
    response.on("end", () => {
      if (response.statusCode === 200) resolve(Buffer.concat(chunks).toString());
      else reject(new Error(`The answer has status ${response.statusCode}`));
    });
  });
  request.end(body);
  const review = parseJson(await promise);
  const response = isJsonObject(review) ? review["response"] : undefined;
  if (!isJsonObject(response)) throw new Error("The answer must be a review");
  return response;
}

/** The value that a share of all values is not above: 0.99 for p99. `Infinity` of none. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Infinity;
}
