import type { Log } from "#telemetry/log.ts";
import type { Registry } from "#telemetry/metrics.ts";
import { readBody, readLines } from "./body.ts";
import type { ClusterConfig } from "./cluster-config.ts";
import { Deadline } from "#async/deadline.ts";
import { ApiError, apiError, ApiUnreachableError, watchError, type RequestName } from "./errors.ts";
import { keyOf, type ObjectKey } from "./key.ts";
import { requestCounter, type RequestCounter, type Verb } from "./metrics.ts";
import { apiVersionOf, collectionPath, objectPath, type Resource } from "./resource.ts";
import { isJsonObject } from "#json/json.ts";
import { defaultTiming, Transport, type Answer, type TransportTiming } from "./transport.ts";
import type { KubeObject } from "./types.ts";

/** Half of what the API server itself allows (--request-timeout, 60 s); by then it is ill. */
const defaultTimeoutMs = 30_000;

/** The longest wait for a watch's headers. They come before the first object is ready. */
const watchOpenTimeoutMs = 30_000;

/** How much longer than agreed a watch may last before it is cut from this side. */
const watchGraceMs = 30_000;

/** One page of 500 objects is far below; etcd's own limit is 1.5 MiB an object. */
const maxResponseBytes = 64 << 20;
const maxWatchLineBytes = 4 << 20;
const maxRefusalBytes = 64 << 10;

const pageSize = 500;

/** How often a list is begun anew because its pages expired (410) while it was read. */
const maxListStarts = 3;

type Query = Readonly<Record<string, string | number | boolean | undefined>>;

export interface KubeClientOptions {
  config: ClusterConfig;
  log: Log;
  metrics?: Registry;
  /** `name/version`. The API server keeps the part before the slash as the field manager. */
  userAgent: string;
  timing?: Partial<TransportTiming>;
}

export interface Selection {
  namespace?: string | undefined;
  labelSelector?: string | undefined;
  fieldSelector?: string | undefined;
}

export interface PatchOptions {
  /** RFC 7396, RFC 6902, or server-side apply. */
  type: "merge" | "json" | "apply";
  body: unknown;
  subresource?: string;
  /** Required for `apply`. */
  fieldManager?: string;
  /** With `apply`: take fields over from other managers. */
  force?: boolean;
  signal: AbortSignal;
}

export interface RawRequest {
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  path: string;
  query?: Query;
  /** Sent as JSON. */
  body?: unknown;
  contentType?: string;
  accept?: string;
  timeoutMs?: number;
  signal: AbortSignal;
}

export interface RawAnswer {
  status: number;
  /** What the JSON says; the text itself if the answer is not JSON. */
  body: unknown;
}

/** One line of a watch. `object` is a Status if `type` is `ERROR`. */
export interface WatchEvent {
  readonly type: string;
  readonly object: unknown;
}

/**
 * Talks to a Kubernetes API server, in JSON over one HTTP/2 connection.
 *
 * Every method rejects with the signal's reason when aborted, with an `ApiError` when the server
 * refuses, and with an `ApiUnreachableError` when it cannot be asked or does not answer in 30 s.
 * A write that ends in the latter may have been carried out. Methods are safe to call at once.
 *
 * ```ts
 * await using client = new KubeClient({ config: await inClusterConfig(), log, userAgent: "coral" });
 * const node = await client.get(nodes, { name: "worker-1" }, { signal });
 * ```
 */
export class KubeClient implements AsyncDisposable {
  readonly #config: ClusterConfig;
  readonly #transport: Transport;
  readonly #userAgent: string;
  readonly #requests: RequestCounter | undefined;

  constructor({ config, log, metrics, userAgent, timing }: KubeClientOptions) {
    this.#config = config;
    this.#transport = new Transport(config, { ...defaultTiming, ...timing }, log);
    this.#userAgent = userAgent;
    this.#requests = metrics && requestCounter(metrics);
  }

  /** Reads one object; `undefined` if there is none of that name. */
  async get<T extends KubeObject>(
    resource: Resource<T>,
    key: ObjectKey,
    { signal }: { signal: AbortSignal },
  ): Promise<T | undefined> {
    const request = { method: "GET", path: objectPath(resource, key) } as const;
    const answer = await this.#call("get", { ...request, accept: acceptOf(resource), signal });
    return answer.status === 404 ? undefined : resource.parse(accepted(answer));
  }

  /** Reads all objects of a kind, page by page. `resourceVersion` is where a watch can go on. */
  async list<T extends KubeObject>(
    resource: Resource<T>,
    { signal, ...selection }: Selection & { signal: AbortSignal },
  ): Promise<{ items: T[]; resourceVersion: string }> {
    const { items, resourceVersion } = await this.listRaw(resource, { ...selection, signal });
    return { items: items.map((item) => resource.parse(item)), resourceVersion };
  }

  /** Does what `list` does, without looking into the objects. */
  async listRaw(
    resource: Resource<KubeObject>,
    { signal, ...selection }: Selection & { signal: AbortSignal },
  ): Promise<{ items: unknown[]; resourceVersion: string }> {
    const path = collectionPath(resource, selection.namespace);
    const query = { ...selectors(selection), limit: pageSize };
    for (let start = 1; ; start++) {
      try {
        return await this.#pages({ path, query, accept: acceptOf(resource, "List") }, signal);
      } catch (error) {
        const hasExpired = error instanceof ApiError && error.status === 410;
        if (!hasExpired || start === maxListStarts) throw error;
      }
    }
  }

  /** Creates an object. @throws {ConflictError} if it exists. */
  async create<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    { signal }: { signal: AbortSignal },
  ): Promise<T> {
    const path = collectionPath(resource, object.metadata.namespace);
    const body = { apiVersion: apiVersionOf(resource), kind: resource.kind, ...object };
    const request = { method: "POST", path, body, accept: acceptOf(resource) } as const;
    return resource.parse(accepted(await this.#call("create", { ...request, signal })));
  }

  /**
   * Replaces an object, or one subresource of it (`status`), as a whole.
   *
   * @throws {ConflictError} if its `metadata.resourceVersion` is not the newest.
   */
  async replace<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    { subresource, signal }: { subresource?: string; signal: AbortSignal },
  ): Promise<T> {
    const path = withSubresource(objectPath(resource, keyOf(object)), subresource);
    const body = { apiVersion: apiVersionOf(resource), kind: resource.kind, ...object };
    const request = { method: "PUT", path, body, accept: acceptOf(resource) } as const;
    return resource.parse(accepted(await this.#call("update", { ...request, signal })));
  }

  /** Changes parts of an object. Only `apply` creates one that is not there. */
  async patch<T extends KubeObject>(
    resource: Resource<T>,
    key: ObjectKey,
    { type, body, subresource, fieldManager, force, signal }: PatchOptions,
  ): Promise<T> {
    const answer = await this.#call("patch", {
      method: "PATCH",
      path: withSubresource(objectPath(resource, key), subresource),
      query: { fieldManager, force },
      contentType: patchTypes[type],
      accept: acceptOf(resource),
      body,
      signal,
    });
    return resource.parse(accepted(answer));
  }

  /**
   * Deletes an object. With finalizers on it, it stays until they are gone.
   *
   * @param options.preconditions - what must still be so; otherwise a `ConflictError`.
   * @returns false if there was none of that name.
   */
  async delete(
    resource: Resource<KubeObject>,
    key: ObjectKey,
    options: {
      preconditions?: { uid?: string; resourceVersion?: string };
      signal: AbortSignal;
    },
  ): Promise<boolean> {
    const { preconditions, signal } = options;
    const path = objectPath(resource, key);
    const body = {
      apiVersion: "v1",
      kind: "DeleteOptions",
      ...(preconditions && { preconditions }),
    };
    const answer = await this.#call("delete", { method: "DELETE", path, body, signal });
    if (answer.status === 404) return false;
    accepted(answer);
    return true;
  }

  /** Sends any request and returns the answer, whatever its status. Never an `ApiError`. */
  async request({ signal, ...request }: RawRequest): Promise<RawAnswer> {
    const { status, body } = await this.#call(verbOf[request.method], { ...request, signal });
    return { status, body };
  }

  /**
   * Watches a kind: yields what the server sends until it ends the watch or the caller leaves.
   *
   * @param options.query - the watch's own parameters, like `resourceVersion`.
   * @throws {ApiError} only if the watch is refused; a failure later is an event of type `ERROR`.
   * @throws {ApiUnreachableError} if the connection is lost, or silent beyond `timeoutMs`.
   */
  async *watch(
    resource: Resource<KubeObject>,
    options: Selection & { query: Query; timeoutMs: number; signal: AbortSignal },
  ): AsyncGenerator<WatchEvent> {
    const { query, timeoutMs, signal, ...selection } = options;
    const request = { method: "GET", path: collectionPath(resource, selection.namespace) } as const;
    const accept = acceptOf(resource);
    const timeoutSeconds = Math.ceil(timeoutMs / 1_000);
    using deadline = new Deadline(timeoutSeconds * 1_000 + watchGraceMs, signal);
    const full = { ...selectors(selection), ...query, watch: true, timeoutSeconds };
    try {
      const { stream, ...answer } = await this.#open(
        "watch",
        { ...request, query: full, accept, timeoutMs: watchOpenTimeoutMs },
        deadline.signal,
      );
      if (answer.status >= 400) {
        const body = parseJson(await readBody(stream, request, maxRefusalBytes));
        throw apiError(request, answer.status, body, answer.headers["retry-after"]);
      }
      for await (const line of readLines(stream, request, maxWatchLineBytes)) {
        yield parseWatchEvent(line, request);
      }
    } catch (error) {
      signal.throwIfAborted();
      if (!deadline.hasPassed) throw error;
      throw new ApiUnreachableError(request, "the watch did not end", error);
    }
  }

  /** Makes the error for the Status in an `ERROR` event of a watch. */
  watchError(resource: Resource<KubeObject>, status: unknown): ApiError {
    return watchError({ method: "GET", path: collectionPath(resource) }, status);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#transport[Symbol.asyncDispose]();
  }

  async #pages(
    request: { path: string; query: Query; accept: string },
    signal: AbortSignal,
  ): Promise<{ items: unknown[]; resourceVersion: string }> {
    const items: unknown[] = [];
    let next: string | undefined;
    for (;;) {
      const query = { ...request.query, continue: next };
      const answer = await this.#call("list", { ...request, method: "GET", query, signal });
      const list = parseList(accepted(answer), answer.request);
      for (const item of list.items) items.push(item);
      if (list.next === undefined) return { items, resourceVersion: list.resourceVersion };
      next = list.next;
    }
  }

  async #call(verb: Verb, { signal, ...request }: RawRequest): Promise<CallAnswer> {
    const { timeoutMs = defaultTimeoutMs } = request;
    using deadline = new Deadline(timeoutMs, signal);
    try {
      const full = { ...request, timeoutMs };
      const { status, headers, stream } = await this.#open(verb, full, deadline.signal);
      const limitBytes = status >= 400 ? maxRefusalBytes : maxResponseBytes;
      const text = await readBody(stream, request, limitBytes);
      const isJson = headers["content-type"]?.includes("json") ?? false;
      const body = isJson ? parseJson(text) : text;
      if (isJson && body === undefined && status < 400) {
        throw new ApiUnreachableError(request, "the answer ended early");
      }
      return { request, status, body, retryAfter: headers["retry-after"] };
    } catch (error) {
      signal.throwIfAborted();
      if (!deadline.hasPassed) throw error;
      throw new ApiUnreachableError(request, `no answer within ${timeoutMs} ms`, error);
    }
  }

  async #open(
    verb: Verb,
    request: Omit<RawRequest, "signal"> & { timeoutMs: number },
    signal: AbortSignal,
  ): Promise<Answer> {
    const { method, path, query = {}, body, timeoutMs } = request;
    try {
      const answer = await this.#transport.open(
        {
          method,
          path,
          query: formatQuery(query),
          timeoutMs,
          headers: await this.#headers(request),
          ...(body !== undefined && { body: JSON.stringify(body) }),
        },
        { signal },
      );
      this.#requests?.inc({ verb, result: answer.status >= 400 ? "refused" : "ok" });
      return answer;
    } catch (error) {
      this.#requests?.inc({ verb, result: "unreachable" });
      throw error;
    }
  }

  async #headers(request: Omit<RawRequest, "signal">): Promise<Record<string, string>> {
    const { accept = "application/json", contentType = "application/json", body } = request;
    const token = await this.#config.token?.();
    return {
      accept,
      "user-agent": this.#userAgent,
      ...(body !== undefined && { "content-type": contentType }),
      ...(token && { authorization: `Bearer ${token}` }),
    };
  }
}

interface CallAnswer extends RawAnswer {
  readonly request: RequestName;
  readonly retryAfter: string | undefined;
}

const verbOf = {
  GET: "get",
  POST: "create",
  PUT: "update",
  PATCH: "patch",
  DELETE: "delete",
} as const;

const patchTypes = {
  merge: "application/merge-patch+json",
  json: "application/json-patch+json",
  // JSON is YAML, and only the YAML type is known to every server.
  apply: "application/apply-patch+yaml",
} as const;

/**
 * What the API server is asked to answer with. It refuses in full words whatever that is. A front of it
 * that knows no such view (an aggregated server, a proxy) answers with whole objects, instead of 406.
 */
function acceptOf({ view }: Resource<KubeObject>, suffix: "" | "List" = ""): string {
  if (view === undefined) return "application/json";
  return `application/json;as=PartialObjectMetadata${suffix};g=meta.k8s.io;v=v1,application/json`;
}

/** The body of an answer that is no refusal. */
function accepted({ request, status, body, retryAfter }: CallAnswer): unknown {
  if (status >= 400) throw apiError(request, status, body, retryAfter);
  return body;
}

function selectors({ labelSelector, fieldSelector }: Selection): Query {
  return { labelSelector, fieldSelector };
}

function withSubresource(path: string, subresource: string | undefined): string {
  return subresource === undefined ? path : `${path}/${subresource}`;
}

function formatQuery(query: Query): string {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") pairs.set(name, String(value));
  }
  return pairs.size > 0 ? `?${pairs.toString()}` : "";
}

/** `undefined` if the text is not JSON, which no JSON text means. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function parseWatchEvent(line: string, request: RequestName): WatchEvent {
  const event = parseJson(line);
  if (!isJsonObject(event) || typeof event["type"] !== "string") {
    throw new ApiUnreachableError(request, "the watch sent something that is no event");
  }
  return { type: event["type"], object: event["object"] };
}

interface ListPage {
  readonly items: readonly unknown[];
  readonly resourceVersion: string;
  readonly next?: string;
}

function parseList(body: unknown, request: RequestName): ListPage {
  const list = isJsonObject(body) ? body : {};
  const metadata = isJsonObject(list["metadata"]) ? list["metadata"] : {};
  const { resourceVersion, continue: next } = metadata;
  const items: unknown = list["items"] ?? [];
  if (!Array.isArray(items) || typeof resourceVersion !== "string") {
    throw new ApiUnreachableError(request, "the answer is no list");
  }
  return { items, resourceVersion, ...(typeof next === "string" && next !== "" && { next }) };
}
