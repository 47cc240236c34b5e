import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { router } from "#http/router.ts";
import { serveTls, type Serving } from "#http/serve.ts";
import { KubeClient } from "#kube/client.ts";
import { leases, pods } from "#kube/resource.ts";
import { silentLog } from "#telemetry/log.ts";
import { aCertificate } from "#test/certificates.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { LeaderLink } from "./leader-link.ts";

const namespace = "coral-system";
const serverName = "coral-controller.coral-system.svc";
const certificate = aCertificate(serverName);
const request = {
  body: { want: [] },
  authorization: "Bearer x",
  signal: new AbortController().signal,
};

/** A leader that repeats what it hears, an API server that tells who it is, and a link to it. */
class Scene implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly api: FakeApiServer;
  readonly link: LeaderLink;
  nowMs = 0;
  ca: string | undefined = certificate.ca;
  /** What the API server's answers wait for. */
  gate: Promise<void> = Promise.resolve();

  private constructor(api: FakeApiServer, server: Serving) {
    this.api = this.#stack.use(api);
    this.#stack.use(server);
    const client = this.#stack.use(
      new KubeClient({ config: api.config, log: silentLog, userAgent: "test" }),
    );
    this.link = this.#stack.use(
      new LeaderLink({
        client: {
          get: async (resource, key, options) => {
            await this.gate;
            options.signal.throwIfAborted();
            return client.get(resource, key, options);
          },
        },
        namespace,
        lease: "coral-controller",
        identity: "coral-b",
        port: server.port,
        serverName,
        ca: () => this.ca,
        monotonicMs: () => this.nowMs,
      }),
    );
  }

  static async start(): Promise<Scene> {
    const echo = router(
      {
        "/v1/slots": {
          post: async ({ body, headers }) => ({
            contentType: "application/json",
            body: JSON.stringify([body, headers.authorization, headers["coral-forwarded-by"]]),
          }),
        },
      },
      silentLog,
    );
    const server = await serveTls(echo, {
      port: 0,
      host: "127.0.0.1",
      maxBodyBytes: 1_000,
      closeTimeoutMs: 100,
      certificates: {
        current: () => certificate,
        onChange: () => ({ [Symbol.dispose]() {} }),
      },
    });
    return new Scene(await FakeApiServer.start(), server);
  }

  setLeader(holderIdentity: string): void {
    const key = `${namespace}/coral-controller`;
    const metadata = { namespace, name: "coral-controller" };
    if (this.api.get(leases, key)) this.api.merge(leases, key, { spec: { holderIdentity } });
    else this.api.create(leases, { metadata, spec: { holderIdentity } });
    this.nowMs += 2_000;
  }

  addPod(name: string, podIP?: string): void {
    this.api.create(pods, { metadata: { namespace, name } });
    this.api.merge(pods, `${namespace}/${name}`, { status: { podIP } });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

describe("LeaderLink", () => {
  test("finds the leader's pod and passes a request on to it", async () => {
    await using scene = await Scene.start();
    scene.addPod("coral-a", "127.0.0.1");
    scene.setLeader("coral-a");
    assert.deepEqual(await scene.link.post("/v1/slots", request), {
      status: 200,
      body: [{ want: [] }, "Bearer x", "coral-b"],
    });
  });

  test("costs the API server one GET in two seconds, however many requests there are", async () => {
    await using scene = await Scene.start();
    scene.addPod("coral-a", "127.0.0.1");
    scene.setLeader("coral-a");
    const posts = Array.from({ length: 20 }, async () => scene.link.post("/v1/slots", request));
    await Promise.all(posts);
    assert.deepEqual(
      scene.api.requests.map(({ path }) => path.split("/").at(-2)),
      ["leases", "pods"],
    );
    scene.nowMs += 2_000;
    await scene.link.post("/v1/slots", request);
    assert.equal(scene.api.requests.length, 3);
  });

  test("passes nothing on while nobody leads that it could reach", async () => {
    await using scene = await Scene.start();
    const passesOn = async (): Promise<boolean> =>
      (await scene.link.post("/v1/slots", request)) !== undefined;
    assert.equal(await passesOn(), false, "there is no lease");
    scene.setLeader("");
    assert.equal(await passesOn(), false, "it was given up");
    scene.setLeader("coral-b");
    assert.equal(await passesOn(), false, "it is ours");
    scene.setLeader("coral-gone");
    assert.equal(await passesOn(), false, "the pod is gone");
    scene.addPod("coral-a", "127.0.0.1");
    scene.setLeader("coral-a");
    scene.ca = undefined;
    assert.equal(await passesOn(), false, "there is no authority yet");
    scene.ca = certificate.ca;
    assert.equal(await passesOn(), true);
  });

  test("does not talk to somebody who is not a replica", async () => {
    await using scene = await Scene.start();
    scene.addPod("coral-a", "127.0.0.1");
    scene.setLeader("coral-a");
    scene.ca = aCertificate(serverName).ca;
    await assert.rejects(scene.link.post("/v1/slots", request));
  });

  // What the first caller had asked failed with it, for everybody who waited for the same.
  test("a caller that leaves takes nothing from the others", async () => {
    await using scene = await Scene.start();
    scene.addPod("coral-a", "127.0.0.1");
    scene.setLeader("coral-a");
    const { promise, resolve } = Promise.withResolvers<void>();
    scene.gate = promise;
    const first = new AbortController();
    const left = scene.link.post("/v1/slots", { ...request, signal: first.signal });
    const second = scene.link.post("/v1/slots", request);
    first.abort(new Error("The first has left"));

    await assert.rejects(left, /The first has left/);
    resolve();
    assert.equal((await second)?.status, 200);
    assert.equal(scene.api.requests.length, 2);
  });

  test("asks the API server again after it failed", async () => {
    await using scene = await Scene.start();
    scene.addPod("coral-a", "127.0.0.1");
    scene.setLeader("coral-a");
    scene.api.fail({ status: 500 });
    await assert.rejects(scene.link.post("/v1/slots", request), { status: 500 });
    assert.equal((await scene.link.post("/v1/slots", request))?.status, 200);
  });
});
