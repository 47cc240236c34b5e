import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";

import type { Log } from "#telemetry/log.ts";

/** What a route answers. */
export interface Reply {
  /** 200 if not given. */
  readonly status?: number;
  /** Plain text if not given. */
  readonly contentType?: string;
  readonly body: string;
}

/** Answers to GET and HEAD by exact path. */
export type Routes = Readonly<Record<string, () => Reply | Promise<Reply>>>;

/**
 * Makes a request listener of a few routes. What a route throws is logged, and the client learns
 * nothing of it but the status 500.
 */
export function router(routes: Routes, log: Log): RequestListener {
  async function answer({ method, url = "" }: IncomingMessage): Promise<Reply> {
    const [path = ""] = url.split("?", 1);
    const route = Object.hasOwn(routes, path) ? routes[path] : undefined;
    if (!route) return { status: 404, body: "not found\n" };
    if (method !== "GET" && method !== "HEAD") return { status: 405, body: "only GET and HEAD\n" };
    try {
      return await route();
    } catch (error) {
      log.error("request failed", { path, error });
      return { status: 500, body: "failed\n" };
    }
  }

  async function respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { status = 200, contentType = "text/plain; charset=utf-8", body } = await answer(request);
    response.writeHead(status, {
      "content-type": contentType,
      "content-length": Buffer.byteLength(body),
      "cache-control": "no-store",
      "x-content-type-options": "nosniff",
      ...(status === 405 && { allow: "GET, HEAD" }),
    });
    response.end(body); // Node leaves it out of the answer to HEAD.
  }

  return (request, response) => void respond(request, response);
}
