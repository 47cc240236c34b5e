import { request as send, type Agent } from "node:https";
import type { IncomingMessage } from "node:http";

import { BodyTooLargeError, readBody } from "./body.ts";

/** A JSON request to a server of Coral's own. */
export interface JsonPost {
  /** Its connections are used. */
  readonly agent: Agent;
  readonly host: string;
  readonly port: number;
  /** The name that the server's certificate must have. */
  readonly serverName: string;
  /** The authorities to trust, in PEM, and no others. */
  readonly ca: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: unknown;
  /** The largest answer, in bytes. */
  readonly maxAnswerBytes: number;
  /** Bounds the whole exchange in time. */
  readonly signal: AbortSignal;
}

/** What a server answered, whatever the status. */
export interface JsonAnswer {
  readonly status: number;
  /** What the JSON says, of which nothing was checked; `undefined` if the answer is no JSON. */
  readonly body: unknown;
}

/**
 * Sends JSON over TLS and reads the answer. A request that meets a kept connection which the server
 * is just closing is sent once more: it must be one that may come twice.
 *
 * @throws {BodyTooLargeError} if the answer is too large.
 * @throws Node's error with its `code` if the server cannot be reached, or is not the one it is to be.
 * @throws if `signal` is aborted.
 */
export async function postJson(post: JsonPost): Promise<JsonAnswer> {
  const text = JSON.stringify(post.body);
  let response: IncomingMessage;
  try {
    response = await exchange(post, text);
  } catch (error) {
    if (!(error instanceof StaleConnection)) throw error;
    response = await exchange(post, text);
  }
  const answer = await readBody(response, post.maxAnswerBytes).catch((error: unknown) => {
    if (error instanceof BodyTooLargeError) response.destroy();
    throw error;
  });
  return { status: response.statusCode ?? 0, body: parseJson(answer) };
}

/** The server closed a kept connection before it answered. */
class StaleConnection extends Error {
  override readonly name = "StaleConnection";
}

async function exchange(post: JsonPost, text: string): Promise<IncomingMessage> {
  const { agent, host, port, serverName, ca, path, headers, signal } = post;
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const request = send(
    {
      method: "POST",
      agent,
      host,
      port,
      servername: serverName,
      ca,
      path,
      headers: {
        ...headers,
        host: serverName,
        "content-type": "application/json",
        "content-length": Buffer.byteLength(text),
      },
      minVersion: "TLSv1.2",
      signal,
    },
    resolve,
  );
  request.once("error", (error) => {
    const isStale = request.reusedSocket && "code" in error && error.code === "ECONNRESET";
    reject(isStale && !signal.aborted ? new StaleConnection("closed", { cause: error }) : error);
  });
  request.end(text);
  return promise;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
