import { once } from "node:events";
import {
  constants,
  createServer,
  type Http2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";

import type { ClusterConfig } from "#kube/cluster-config.ts";
import { events, leases, nodes, pods, type Resource } from "#kube/resource.ts";
import type { KubeObject } from "#kube/types.ts";
import { jsonPatch, mergePatch } from "./fake-api-server-patch.ts";
import { selectorOf, type Selector } from "./fake-api-server-selector.ts";
import {
  FakeStore,
  isJson,
  metadataOf,
  Refused,
  type Collection,
  type Json,
  type StoreEvent,
} from "./fake-api-server-store.ts";

/** A request as it arrived, for tests in which the request is the outcome. */
export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

export interface Failure {
  readonly status: number;
  readonly retryAfterSeconds?: number;
  /** How many requests fail. */
  readonly times?: number;
  readonly matching?: (request: SeenRequest) => boolean;
}

export interface FakeApiServerOptions {
  /** Served besides nodes, pods, leases and events. They have a status subresource. */
  resources?: readonly Resource<KubeObject>[];
}

/**
 * A Kubernetes API server in memory, on HTTP/2 without TLS.
 *
 * Real: resource versions over all kinds, conflicts, preconditions, finalizers, the status
 * subresource, generations, paging, merge and JSON patches, selectors by equality, watches with
 * initial events, bookmarks, replay, timeouts and 410. Not real: no schemas, no pruning, no
 * admission, no `generateName`, any field can be selected, and a server-side apply is a merge that
 * records its manager and never conflicts.
 */
export class FakeApiServer implements AsyncDisposable {
  readonly #store = new FakeStore();
  readonly #collections = new Map<string, Collection>();
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #watches = new Set<Watch>();
  readonly #failures: { failure: Failure; left: number }[] = [];
  #server: Http2Server | undefined;
  #port = 0;
  #refusals = 0;
  #silent: ((request: SeenRequest) => boolean) | undefined;

  /** How many connections there were so far. */
  connections = 0;

  /** Every request so far. Empty it to count from now. */
  readonly requests: SeenRequest[] = [];

  /** Whether `sendInitialEvents` works; in Kubernetes 1.32 and 1.33 it may be switched off. */
  hasWatchList = true;

  /** Whether it can send metadata alone; what asks for nothing else is refused if not. */
  hasMetadataViews = true;

  /** Whether a watch from a forgotten revision is refused at once; otherwise by an ERROR event. */
  goneIsStatus = false;

  private constructor(resources: readonly Resource<KubeObject>[]) {
    for (const resource of [nodes, pods, ...resources]) this.#serve(resource, true);
    for (const resource of [leases, events]) this.#serve(resource, false);
  }

  static async start({ resources = [] }: FakeApiServerOptions = {}): Promise<FakeApiServer> {
    const server = new FakeApiServer(resources);
    await server.start();
    return server;
  }

  get config(): ClusterConfig {
    return { server: new URL(`http://127.0.0.1:${this.#port}`) };
  }

  /** How many watches are open. */
  get watching(): number {
    return this.#watches.size;
  }

  /** Listens again, on the port it had. Nothing is lost. */
  async start(): Promise<void> {
    const server = createServer((request, response) => void this.#handle(request, response));
    server.on("session", (session) => {
      this.connections++;
      this.#sessions.add(session);
      session.once("close", () => this.#sessions.delete(session));
      session.on("error", () => {}); // A client that goes away is no fault of the server.
    });
    server.listen(this.#port, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    if (address !== null && typeof address !== "string") this.#port = address.port;
    this.#server = server;
  }

  /** Stops listening and drops every connection, as a killed process does. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    const closed = once(server, "close");
    server.close();
    this.dropConnections();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Cuts every connection. */
  dropConnections(): void {
    for (const session of this.#sessions) session.destroy();
  }

  /** Asks every client to open a new connection; streams in hand go on. */
  goAway(): void {
    for (const session of this.#sessions) session.goaway(constants.NGHTTP2_NO_ERROR);
  }

  /** Answers the next requests with REFUSED_STREAM, as a server that is going away does. */
  refuseStreams(times: number): void {
    this.#refusals = times;
  }

  /** Lets the next requests fail. */
  fail(failure: Failure): void {
    this.#failures.push({ failure, left: failure.times ?? 1 });
  }

  /** Leaves requests without an answer, until called with nothing. */
  ignore(matching?: (request: SeenRequest) => boolean): void {
    this.#silent = matching;
  }

  /** Forgets all changes so far, so that resuming a watch from before gets 410. */
  compact(): void {
    this.#store.compact();
  }

  /** Tells each watch that asked for it how far it is. */
  sendBookmarks(): void {
    for (const watch of this.#watches) watch.bookmark();
  }

  /** Ends each watch with an ERROR event. */
  failWatches(status: number, reason: string): void {
    for (const watch of this.#watches) watch.fail(new Refused(status, reason, "by the test"));
  }

  /** Ends each watch as the server does after its `timeoutSeconds`. */
  endWatches(): void {
    for (const watch of this.#watches) watch.end();
  }

  /** Sends one raw line to every watch. */
  sendToWatches(line: string): void {
    for (const watch of this.#watches) watch.write(line);
  }

  /** Creates an object from outside; what a schema would refuse passes. */
  create<T extends KubeObject>(resource: Resource<T>, object: unknown): Json {
    const given = isJson(object) ? object : {};
    const { namespace } = metadataOf(given);
    const collection = this.#collection(resource);
    return this.#store.create(collection, typeof namespace === "string" ? namespace : undefined, {
      apiVersion: apiVersion(collection),
      kind: collection.kind,
      ...given,
    });
  }

  /** Merges a patch into an object, status included. @param key - as `formatKey` writes it. */
  merge(resource: Resource<KubeObject>, key: string, patch: Json): Json {
    const collection = this.#collection(resource);
    const merged = mergePatch(this.#store.get(collection, key), patch);
    const object = isJson(merged) ? merged : {};
    const { status } = object;
    if (!collection.hasStatus || patch["status"] === undefined) {
      return this.#store.update(collection, key, object);
    }
    const updated = this.#store.update(collection, key, object);
    return this.#store.update(collection, key, { ...updated, status }, "status");
  }

  delete(resource: Resource<KubeObject>, key: string): Json {
    return this.#store.delete(this.#collection(resource), key, {});
  }

  /** Reads an object as it is stored. */
  get(resource: Resource<KubeObject>, key: string): Json | undefined {
    const collection = this.#collection(resource);
    return this.#store.has(collection, key) ? this.#store.get(collection, key) : undefined;
  }

  /** Reads all objects of a kind. */
  list(resource: Resource<KubeObject>): Json[] {
    return this.#store.all(this.#collection(resource));
  }

  #serve(resource: Resource<KubeObject>, hasStatus: boolean): void {
    const { group, version, plural, kind, namespaced } = resource;
    const collection = { group, version, plural, kind, namespaced, hasStatus };
    this.#collections.set(`${apiVersion(collection)}/${plural}`, collection);
  }

  #collection(resource: { group: string; version: string; plural: string }): Collection {
    const collection = this.#collections.get(`${apiVersion(resource)}/${resource.plural}`);
    if (!collection) throw new Refused(404, "NotFound", "the server could not find the resource");
    return collection;
  }

  async #handle(request: Http2ServerRequest, response: Http2ServerResponse): Promise<void> {
    request.on("error", () => {});
    response.on("error", () => {});
    response.stream.on("error", () => {});
    const url = new URL(request.url, "http://fake");
    const seen: SeenRequest = {
      method: request.method,
      path: url.pathname,
      query: Object.fromEntries(url.searchParams),
      headers: request.headers,
    };
    this.requests.push(seen);
    try {
      if (this.#silent?.(seen)) return;
      if (this.#refusals > 0) {
        this.#refusals--;
        response.stream.close(constants.NGHTTP2_REFUSED_STREAM);
        return;
      }
      const failure = this.#failureFor(seen);
      if (failure) return sendFailure(response, failure);
      const target = this.#route(url.pathname);
      const body = await readJson(request);
      this.#answer(seen, url.searchParams, target, body, response);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      sendStatus(response, error);
    }
  }

  #failureFor(seen: SeenRequest): Failure | undefined {
    const planned = this.#failures.find(
      ({ failure, left }) => left > 0 && (failure.matching?.(seen) ?? true),
    );
    if (planned) planned.left--;
    return planned?.failure;
  }

  #route(path: string): Target {
    const match =
      /^\/(?:api|apis\/(?<group>[^/]+))\/(?<version>[^/]+)(?:\/namespaces\/(?<namespace>[^/]+))?\/(?<plural>[^/]+)(?:\/(?<name>[^/]+))?(?:\/(?<subresource>[^/]+))?$/.exec(
        path,
      );
    const {
      group = "",
      version = "",
      namespace,
      plural = "",
      name,
      subresource,
    } = match?.groups ?? {};
    const collection = this.#collection({ group, version, plural });
    if (subresource !== undefined && !(subresource === "status" && collection.hasStatus)) {
      throw new Refused(404, "NotFound", "the server could not find the requested resource");
    }
    return {
      collection,
      ...(namespace !== undefined && { namespace: decodeURIComponent(namespace) }),
      ...(name !== undefined && { name: decodeURIComponent(name) }),
      ...(subresource !== undefined && { subresource }),
    };
  }

  #answer(
    { method, headers }: SeenRequest,
    query: URLSearchParams,
    target: Target,
    body: Json | unknown[],
    response: Http2ServerResponse,
  ): void {
    const { collection, namespace, name, subresource } = target;
    const view = this.#viewOf(String(headers["accept"]));
    const reply: Reply = (status, object) => send(response, status, view(object));
    const key = namespace ? `${namespace}/${name}` : (name ?? "");
    const given = isJson(body) ? body : {};
    switch (method) {
      case "GET":
        if (name !== undefined) return reply(200, this.#store.get(collection, key));
        if (query.get("watch") === "true") return this.#watch(target, query, response, view);
        return send(response, 200, this.#page(target, query, view));
      case "POST":
        return reply(201, this.#store.create(collection, namespace, given));
      case "PUT":
        return reply(200, this.#store.update(collection, key, given, subresource));
      case "PATCH":
        return this.#patch(target, key, String(headers["content-type"]), query, body, reply);
      case "DELETE": {
        const preconditions = isJson(given["preconditions"]) ? given["preconditions"] : {};
        return send(response, 200, this.#store.delete(collection, key, preconditions));
      }
      default:
        throw new Refused(405, "MethodNotAllowed", "the server does not allow this method");
    }
  }

  #viewOf(accept: string): View {
    const ranges = accept.split(",");
    if (!ranges.some(isOfMetadata)) return whole;
    if (!this.hasMetadataViews) {
      if (!ranges.every(isOfMetadata)) return whole;
      throw new Refused(406, "NotAcceptable", "only the following media types are accepted");
    }
    const head = { apiVersion: "meta.k8s.io/v1", kind: "PartialObjectMetadata" };
    return ({ metadata }) => ({ ...head, metadata });
  }

  #patch(
    { collection, namespace, name, subresource }: Target,
    key: string,
    type: string,
    query: URLSearchParams,
    patch: unknown,
    reply: Reply,
  ): void {
    const isApply = type.startsWith("application/apply-patch");
    const manager = query.get("fieldManager");
    if (isApply && !manager) {
      throw new Refused(
        422,
        "Invalid",
        "fieldManager: Required value: is required for apply patch",
      );
    }
    if (isApply && !this.#store.has(collection, key)) {
      const given = mergePatch({}, patch);
      const created = withManager(isJson(given) ? given : {}, manager);
      metadataOf(created)["name"] = name;
      return reply(201, this.#store.create(collection, namespace, created));
    }
    const current = this.#store.get(collection, key);
    const isJsonPatch = type === "application/json-patch+json";
    const changed = isJsonPatch ? jsonPatch(current, patch) : mergePatch(current, patch);
    const object = isJson(changed) ? changed : {};
    const full = isApply ? withManager(object, manager) : object;
    reply(200, this.#store.update(collection, key, full, subresource));
  }

  #page({ collection, namespace }: Target, query: URLSearchParams, view: View): Json {
    const fits = inScope(namespace, selectorOf(query));
    const matching = this.#store.all(collection).filter(fits);
    const [revision, start] = readContinue(query.get("continue"), this.#store.revision);
    if (this.#store.since(revision) === undefined) {
      throw new Refused(410, "Expired", "The provided continue parameter is too old");
    }
    const limit = Number(query.get("limit") ?? 0) || Infinity;
    const items = matching.slice(start, start + limit).map((object) => asItem(view(object)));
    const next = start + items.length;
    return {
      apiVersion: apiVersion(collection),
      kind: `${collection.kind}List`,
      metadata: {
        resourceVersion: String(revision),
        ...(next < matching.length && { continue: `${revision}:${next}` }),
      },
      items,
    };
  }

  #watch(
    { collection, namespace }: Target,
    query: URLSearchParams,
    response: Http2ServerResponse,
    view: View,
  ): void {
    const wantsInitial = query.get("sendInitialEvents") === "true";
    const hasBookmarks = query.get("allowWatchBookmarks") === "true";
    if (query.has("sendInitialEvents") && !this.hasWatchList) {
      const why =
        "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
      throw new Refused(422, "Invalid", `sendInitialEvents: Forbidden: ${why}`);
    }
    if (wantsInitial && query.get("resourceVersionMatch") !== "NotOlderThan") {
      throw new Refused(422, "Invalid", "resourceVersionMatch: Required value");
    }
    const from = Number(query.get("resourceVersion") ?? 0);
    const missed = wantsInitial || from === 0 ? [] : this.#store.since(from);
    const gone = new Refused(410, "Expired", `too old resource version: ${from}`);
    if (!missed && this.goneIsStatus) throw gone;

    const fits = inScope(namespace, selectorOf(query));
    const { stream } = response;
    const revision = (): number => this.#store.revision;
    const watch = new Watch(stream, { collection, fits, hasBookmarks, revision, view });
    if (!missed) return watch.fail(gone);
    if (wantsInitial || from === 0) {
      for (const object of this.#store.all(collection))
        if (fits(object)) watch.send("ADDED", object);
      if (wantsInitial) watch.bookmark({ "k8s.io/initial-events-end": "true" });
    }
    for (const event of missed) watch.pass(event);
    this.#watches.add(watch);
    const subscription = this.#store.subscribe((event) => watch.pass(event));
    const timer = setTimeout(
      () => watch.end(),
      Number(query.get("timeoutSeconds") ?? 1_800) * 1_000,
    );
    stream.once("close", () => {
      this.#watches.delete(watch);
      subscription[Symbol.dispose]();
      clearTimeout(timer);
    });
  }
}

interface Target {
  readonly collection: Collection;
  readonly namespace?: string;
  readonly name?: string;
  readonly subresource?: string;
}

/** What of an object a client wants to see. */
type View = (object: Json) => Json;

const whole: View = (object) => object;

type Reply = (status: number, object: Json) => void;

function isOfMetadata(mediaRange: string): boolean {
  return /;as=PartialObjectMetadata(List)?;/.test(mediaRange);
}

interface WatchScope {
  readonly collection: Collection;
  readonly fits: Selector;
  readonly hasBookmarks: boolean;
  readonly revision: () => number;
  readonly view: View;
}

/** One open watch. */
class Watch {
  readonly #stream: ServerHttp2Stream;
  readonly #scope: WatchScope;

  constructor(stream: ServerHttp2Stream, scope: WatchScope) {
    this.#stream = stream;
    this.#scope = scope;
    // At once, as the API server does, before there is anything to tell.
    stream.respond({ ":status": 200, "content-type": "application/json" });
  }

  /** Sends a change as the watcher sees it: an object that stops to match is deleted to it. */
  pass({ collection, type, object, previous }: StoreEvent): void {
    const { fits } = this.#scope;
    if (collection !== this.#scope.collection) return;
    const did = previous !== undefined && fits(previous);
    const does = type !== "DELETED" && fits(object);
    if (does) this.send(did ? "MODIFIED" : "ADDED", object);
    else if (did) this.send("DELETED", object);
  }

  bookmark(annotations?: Json): void {
    const { collection, hasBookmarks, revision } = this.#scope;
    if (!hasBookmarks) return;
    const resourceVersion = String(revision());
    this.send("BOOKMARK", {
      apiVersion: apiVersion(collection),
      kind: collection.kind,
      metadata: { resourceVersion, creationTimestamp: null, ...(annotations && { annotations }) },
    });
  }

  fail(refused: Refused): void {
    this.write(JSON.stringify({ type: "ERROR", object: statusOf(refused) }));
    this.end();
  }

  send(type: string, object: Json): void {
    this.write(JSON.stringify({ type, object: this.#scope.view(object) }));
  }

  write(line: string): void {
    this.#stream.write(`${line}\n`);
  }

  end(): void {
    this.#stream.end();
  }
}

function inScope(namespace: string | undefined, fits: Selector): Selector {
  return (object) =>
    (namespace === undefined || metadataOf(object)["namespace"] === namespace) && fits(object);
}

function readContinue(text: string | null, revision: number): [revision: number, start: number] {
  const [at, start] = (text ?? "").split(":");
  return at && start ? [Number(at), Number(start)] : [revision, 0];
}

/** Items of a list come without what the list says of them all. */
function asItem(object: Json): Json {
  const item = { ...object };
  delete item["apiVersion"];
  delete item["kind"];
  return item;
}

function withManager(object: Json, manager: string | null): Json {
  const entry = { manager, operation: "Apply" };
  return { ...object, metadata: { ...metadataOf(object), managedFields: [entry] } };
}

function apiVersion({ group, version }: { group: string; version: string }): string {
  return group === "" ? version : `${group}/${version}`;
}

async function readJson(request: Http2ServerRequest): Promise<Json | unknown[]> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  if (chunks.length === 0) return {};
  const body: unknown = JSON.parse(Buffer.concat(chunks).toString());
  if (isJson(body) || Array.isArray(body)) return body;
  throw new Refused(400, "BadRequest", "the body is no object");
}

function statusOf({ status, reason, message }: Refused): Json {
  const head = { apiVersion: "v1", kind: "Status", metadata: {}, status: "Failure" };
  return { ...head, message, reason, code: status };
}

function sendStatus(response: Http2ServerResponse, refused: Refused): void {
  send(response, refused.status, statusOf(refused));
}

function sendFailure(response: Http2ServerResponse, { status, retryAfterSeconds }: Failure): void {
  if (retryAfterSeconds !== undefined) response.setHeader("retry-after", String(retryAfterSeconds));
  sendStatus(response, new Refused(status, "ByTheTest", "a fault of the fake"));
}

function send(response: Http2ServerResponse, status: number, body: Json): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}
