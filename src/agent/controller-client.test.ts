import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { systemClock } from "#async/clock.ts";
import { router, type PostRequest, type Reply } from "#http/router.ts";
import { serveTls, type ServerCertificate, type Serving } from "#http/serve.ts";
import type { ConfigMap, KubeObject } from "#kube/types.ts";
import type { Resource } from "#kube/resource.ts";
import { silentLog } from "#telemetry/log.ts";
import { aCertificate } from "#test/certificates.ts";
import { ControllerClient } from "./controller-client.ts";
import { LoginsUnavailableError } from "./logins.ts";

const serverName = "coral-controller.coral-system.svc";
const app = "one.test/a/app:1";
const anna = { username: "anna", password: "secret-reef" };
const scope = { signal: new AbortController().signal };

/** A controller that answers as a test wants, and an agent that asks it. */
class Scene implements AsyncDisposable {
  readonly #listeners = new Set<() => void>();
  #server: Serving | undefined;
  #certificate: ServerCertificate & { ca: string };
  readonly requests: PostRequest[] = [];
  answer: (request: PostRequest) => Reply | Promise<Reply> = () => json({ logins: [] });
  /** What is published as the authority to trust. */
  published: string | undefined;
  fetches = 0;
  nowMs = 0;
  token = "token-1";
  #client: ControllerClient | undefined;

  private constructor() {
    this.#certificate = aCertificate(serverName);
    this.published = this.#certificate.ca;
  }

  static async start(): Promise<Scene> {
    const scene = new Scene();
    const post = async (request: PostRequest): Promise<Reply> => {
      scene.requests.push(request);
      return scene.answer(request);
    };
    const entry = { post };
    const routes = router({ "/v1/credentials": entry, "/v1/slots": entry }, silentLog);
    scene.#server = await serveTls(routes, {
      port: 0,
      host: "127.0.0.1",
      maxBodyBytes: 1 << 20,
      closeTimeoutMs: 100,
      certificates: {
        current: () => scene.#certificate,
        onChange: (listener) => {
          scene.#listeners.add(listener);
          return { [Symbol.dispose]: () => scene.#listeners.delete(listener) };
        },
      },
    });
    return scene;
  }

  get client(): ControllerClient {
    return (this.#client ??= new ControllerClient({
      client: {
        get: async <T extends KubeObject>(resource: Resource<T>) => {
          this.fetches++;
          const metadata = { namespace: "coral-system", name: "coral-ca" };
          const object: ConfigMap = {
            metadata,
            ...(this.published !== undefined && { data: { "ca.crt": this.published } }),
          };
          return resource.parse(object);
        },
      },
      namespace: "coral-system",
      token: async () => this.token,
      clock: systemClock,
      monotonicMs: () => this.nowMs,
      address: { host: "127.0.0.1", port: this.#server?.port ?? 0 },
    }));
  }

  /** Gives the server a certificate of another authority. */
  rotate(): void {
    this.#certificate = aCertificate(serverName);
    for (const listener of this.#listeners) listener();
  }

  publish(): void {
    this.published = this.#certificate.ca;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client?.[Symbol.asyncDispose]();
    await this.#server?.[Symbol.asyncDispose]();
  }
}

function json(body: unknown): Reply {
  return { contentType: "application/json", body: JSON.stringify(body) };
}

function loginOf(reference: string, login: unknown, registry = "one.test"): Reply {
  return json({ logins: [{ reference, registry, login }] });
}

async function failureOf(promise: Promise<unknown>): Promise<LoginsUnavailableError> {
  const error: unknown = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  assert.ok(error instanceof LoginsUnavailableError);
  return error;
}

describe("ControllerClient.loginsFor()", () => {
  test("asks with its token, and gives each login the address it is for", async () => {
    await using scene = await Scene.start();
    scene.answer = () =>
      json({
        logins: [
          { reference: app, registry: "one.test", login: anna },
          { reference: app, registry: "one.test", login: { identityToken: "secret-token" } },
        ],
      });
    assert.deepEqual(await scene.client.loginsFor(app, scope), [
      { serverAddress: "one.test", ...anna },
      { serverAddress: "one.test", identityToken: "secret-token" },
    ]);
    const [request] = scene.requests;
    assert.equal(request?.headers.authorization, "Bearer token-1");
    assert.deepEqual(request?.body, { references: [app] });
  });

  test("keeps no login, reads the token for each request, and the authority once", async () => {
    await using scene = await Scene.start();
    await scene.client.loginsFor(app, scope);
    scene.token = "token-2";
    await scene.client.loginsFor(app, scope);
    assert.deepEqual(
      scene.requests.map(({ headers }) => headers.authorization),
      ["Bearer token-1", "Bearer token-2"],
    );
    assert.equal(scene.fetches, 1);
  });

  test("asks at once for all that is wanted while a request is out", async () => {
    await using scene = await Scene.start();
    const release = Promise.withResolvers<void>();
    const entered = Promise.withResolvers<void>();
    scene.answer = async ({ body }) => {
      entered.resolve();
      await release.promise;
      return JSON.stringify(body).includes("app:3")
        ? loginOf("one.test/a/app:3", anna)
        : json({ logins: [] });
    };
    const first = scene.client.loginsFor(app, scope);
    await entered.promise;
    const others = ["2", "3", "2"].map(async (tag) =>
      scene.client.loginsFor(`one.test/a/app:${tag}`, scope),
    );
    release.resolve();
    await first;
    assert.deepEqual(
      (await Promise.all(others)).map(({ length }) => length),
      [0, 1, 0],
    );
    assert.deepEqual(
      scene.requests.map(({ body }) => body),
      [{ references: [app] }, { references: ["one.test/a/app:2", "one.test/a/app:3"] }],
    );
  });

  test("one that leaves does not disturb the others", async () => {
    await using scene = await Scene.start();
    const leaver = new AbortController();
    const reason = new Error("not wanted any more");
    const left = scene.client.loginsFor(app, { signal: leaver.signal });
    const other = scene.client.loginsFor("one.test/a/app:2", scope);
    leaver.abort(reason);
    await assert.rejects(left, (error) => error === reason);
    assert.deepEqual(await other, []);
  });

  const statuses = { 401: false, 403: false, 400: false, 500: true, 503: true, 429: true };
  for (const [status, retryable] of Object.entries(statuses)) {
    test(`takes ${status} for a refusal that is ${retryable ? "" : "not "}worth another try`, async () => {
      await using scene = await Scene.start();
      scene.answer = () => ({ status: Number(status), body: "no\n" });
      const error = await failureOf(scene.client.loginsFor(app, scope));
      assert.equal(error.retryable, retryable);
    });
  }

  const malformed: Record<string, Reply> = {
    "no JSON": { body: "logins" },
    "no list": json({ logins: anna }),
    "a login for another host": loginOf(app, anna, "two.test"),
    "a login for a reference that was not asked for": loginOf("one.test/b:1", anna),
    "a login without a password": loginOf(app, { username: "secret-anna" }),
    "too much": json({ logins: [], text: "secret".repeat(200_000) }),
  };
  for (const [what, reply] of Object.entries(malformed)) {
    test(`does not take ${what}, and quotes nothing of it`, async () => {
      await using scene = await Scene.start();
      scene.answer = () => reply;
      const error = await failureOf(scene.client.loginsFor(app, scope));
      assert.equal(error.retryable, true);
      assert.doesNotMatch(`${error.stack} ${String(error.cause)}`, /secret|token-1/);
    });
  }

  test("is away, and back, with the controller", async () => {
    await using scene = await Scene.start();
    scene.published = undefined;
    const error = await failureOf(scene.client.loginsFor(app, scope));
    assert.equal(error.retryable, true);
    scene.publish();
    assert.deepEqual(await scene.client.loginsFor(app, scope), []);
  });

  test("fetches a new authority once when the controller has one", async () => {
    await using scene = await Scene.start();
    const old = scene.published;
    scene.rotate();
    await failureOf(scene.client.loginsFor(app, scope));
    scene.nowMs += 10_000;
    scene.publish();
    assert.notEqual(scene.published, old);
    assert.deepEqual(await scene.client.loginsFor(app, scope), []);
    assert.deepEqual(await scene.client.loginsFor(app, scope), []);
    assert.equal(scene.fetches, 2);
  });

  test("does not fetch it again and again for a server that nobody vouches for", async () => {
    await using scene = await Scene.start();
    scene.rotate();
    for (const nowMs of [0, 1_000, 9_999]) {
      scene.nowMs = nowMs;
      await failureOf(scene.client.loginsFor(app, scope));
    }
    assert.equal(scene.fetches, 1);
    assert.equal(scene.requests.length, 0, "nobody got the token");
    scene.nowMs = 10_000;
    await failureOf(scene.client.loginsFor(app, scope));
    assert.equal(scene.fetches, 2);
  });
});

describe("ControllerClient.acquire()", () => {
  test("gets a slot, and says what it holds", async () => {
    await using scene = await Scene.start();
    scene.answer = () => json({ granted: true, retryAfterMs: 0, lost: [] });
    const slot = await scene.client.acquire(["team/a"], scope);
    assert.ok("lost" in slot);
    const [request] = scene.requests;
    assert.ok(typeof request?.body === "object" && request.body !== null);
    assert.deepEqual({ ...request.body, sequence: 1 }, { hold: [], want: ["team/a"], sequence: 1 });
    await slot[Symbol.asyncDispose]();
  });

  test("is told when to ask again", async () => {
    await using scene = await Scene.start();
    scene.answer = () => json({ granted: false, retryAfterMs: 7_000, lost: [] });
    assert.deepEqual(await scene.client.acquire(["team/a"], scope), { retryAfterMs: 7_000 });
  });

  for (const body of [{}, { granted: true, retryAfterMs: -1, lost: [] }, { granted: 1 }, "x"]) {
    test(`does not take ${JSON.stringify(body)} for an answer`, async () => {
      await using scene = await Scene.start();
      scene.answer = () => json(body);
      await assert.rejects(scene.client.acquire(["team/a"], scope), { name: "RefusedError" });
    });
  }
});
