import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test } from "node:test";

import { ControllerClient } from "#agent/controller-client.ts";
import type { Slot } from "#agent/slots.ts";
import { imagePlans, images } from "#api/v1/resources.ts";
import { systemClock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import { credentialsRoutes } from "#controller/credentials/endpoint.ts";
import { watchImageSecrets } from "#controller/credentials/image-secrets.ts";
import { TokenReviewer } from "#controller/credentials/token-review.ts";
import { planObject, planOf } from "#controller/image/plan.ts";
import { router } from "#http/router.ts";
import { serveTls } from "#http/serve.ts";
import { KubeClient, type RawRequest } from "#kube/client.ts";
import { Informer } from "#kube/informer.ts";
import { runAsLeader } from "#kube/leader-election.ts";
import { configMaps, nodes, pods, secrets } from "#kube/resource.ts";
import { isJsonObject } from "#json/json.ts";
import { SecretWatch } from "#secrets/secret-watch.ts";
import { jsonLog, silentLog } from "#telemetry/log.ts";
import { noProviders } from "#test/credential-providers.ts";
import { aCertificate } from "#test/certificates.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { anAgentToken } from "#test/agent-token.ts";
import { anImage } from "#test/kinds.ts";
import { ManualClock } from "#test/manual-clock.ts";
import { slotsRoutes } from "./endpoint.ts";
import { LeaderLink } from "./leader-link.ts";
import { slotMs } from "./slot-table.ts";
import { Slots } from "./slots.ts";

const namespace = "coral-system";
const serverName = "coral-controller.coral-system.svc";
const certificate = aCertificate(serverName);
const app = "one.test/a/app:1";
const plan = "team/tools";
const scope = { signal: new AbortController().signal };

/** A cluster, its controllers as they are wired, and agents. Only time and tokens are not real. */
class Scene implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly #api: FakeApiServer;
  readonly clock = new ManualClock();
  readonly lines: string[] = [];
  port = 0;

  private constructor(api: FakeApiServer) {
    this.#api = this.#stack.use(api);
  }

  static async start(): Promise<Scene> {
    const api = await FakeApiServer.start({ resources: [images, imagePlans, secrets, configMaps] });
    const metadata = { namespace, name: "coral-ca" };
    api.create(configMaps, { metadata, data: { "ca.crt": certificate.ca } });
    const auths = { "one.test": { auth: btoa("anna:secret-reef") } };
    api.create(secrets, {
      metadata: { namespace: "team", name: "pull" },
      type: "kubernetes.io/dockerconfigjson",
      data: { ".dockerconfigjson": btoa(JSON.stringify({ auths })) },
    });
    for (const name of ["node1", "node2"]) api.create(nodes, { metadata: { name, labels: {} } });
    const image = anImage({
      repositories: [{ name: "one.test/a/app", tags: ["1"], listSelection: "listed" }],
      imagePullSecrets: [{ name: "pull" }],
      maxConcurrentNodes: 1,
    });
    const stored = images.parse(
      api.create(images, { ...image, metadata: { name: "tools", namespace: "team" } }),
    );
    api.create(imagePlans, planObject(stored, planOf(stored, { pullSecretsRevision: "1" }).spec));
    return new Scene(api);
  }

  /** Starts a replica on an address of its own. */
  async replica(name: string, host: string): Promise<Replica> {
    const { clock } = this;
    const monotonicMs = (): number => clock.now().getTime();
    const stop = new AbortController();
    const stack = this.#stack.use(new AsyncDisposableStack());
    const client = stack.use(this.#connect(name));
    const common = { client, clock: systemClock, log: silentLog };
    const caches = {
      images: new Informer({ ...common, resource: images }),
      plans: new Informer({ ...common, resource: imagePlans }),
      nodes: new Informer({ ...common, resource: nodes }),
    };
    const informers = Object.values(caches);
    const connect = (): KubeClient => this.#connect(name);
    const watch = stack.use(new SecretWatch({ ...common, connect }));
    stack.use(watchImageSecrets(caches.images, watch));
    const slots = new Slots(monotonicMs);
    const reviewer = new TokenReviewer({
      namespace,
      serviceAccount: "coral-agent",
      clock: systemClock,
      client: { request: reviewToken },
      isReplica: () => false,
    });
    const election = { client, namespace, lease: "coral-controller", identity: name };
    const leader = stack.use(
      new LeaderLink({ ...election, port: this.port, serverName, ca: () => certificate.ca }),
    );
    const log = jsonLog({ level: "debug", write: (line) => this.lines.push(line) });
    const hasSynced = (): boolean => informers.every((informer) => informer.hasSynced);
    const routes = {
      ...credentialsRoutes({
        ...caches,
        reviewer,
        secrets: watch,
        providers: noProviders,
        hasSynced,
        log,
      }),
      ...slotsRoutes({ ...caches, reviewer, slots, leader, totalNodesOf: () => 2, log }),
    };
    const certificates = {
      current: () => certificate,
      onChange: () => ({ [Symbol.dispose]() {} }),
    };
    const server = await serveTls(router(routes, log), {
      port: this.port,
      host,
      maxBodyBytes: 1 << 20,
      closeTimeoutMs: 100,
      certificates,
    });
    stack.use(server);
    this.port ||= server.port;
    const labels = { "app.kubernetes.io/name": "coral" };
    this.#api.create(pods, { metadata: { namespace, name, labels } });
    this.#api.merge(pods, `${namespace}/${name}`, { status: { podIP: host } });

    const group = stack.use(new TaskGroup(stop.signal));
    const running = [
      ...informers.map((informer) => group.run((signal) => informer.run(signal))),
      group.run((signal) => watch.run(signal)),
      group.run(async (signal) =>
        runAsLeader(
          {
            ...common,
            ...election,
            name: election.lease,
            leaseDurationMs: 1_000,
            renewDeadlineMs: 700,
            retryPeriodMs: 50,
            signal,
          },
          (leading) => slots.lead(leading),
        ),
      ),
    ];
    for (const task of running) task.catch(() => {});
    await until("its caches", hasSynced);
    return { slots, host, end: async () => stack.disposeAsync() };
  }

  /** An agent that reaches one replica. */
  agent(node: string, { host }: Replica, kind = "good"): ControllerClient {
    const { clock } = this;
    return this.#stack.use(
      new ControllerClient({
        client: this.#stack.use(this.#connect(node)),
        namespace,
        token: async () => anAgentToken({}, `${kind}-${node}`),
        clock,
        monotonicMs: () => clock.now().getTime(),
        address: { host, port: this.port },
      }),
    );
  }

  #connect(userAgent: string): KubeClient {
    return new KubeClient({ config: this.#api.config, log: silentLog, userAgent });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

interface Replica {
  readonly slots: Slots;
  readonly host: string;
  end(): Promise<void>;
}

/** Takes a signature's word for it: `good-<node>` is an agent's. */
async function reviewToken({ body }: RawRequest): Promise<{ status: number; body: unknown }> {
  const spec = isJsonObject(body) && isJsonObject(body["spec"]) ? body["spec"] : {};
  const [, , signature = ""] = String(spec["token"]).split(".");
  const [kind, node = ""] = Buffer.from(signature, "base64url").toString().split("-");
  const username = `system:serviceaccount:${kind === "good" ? namespace : "team"}:coral-agent`;
  const extra = { "authentication.kubernetes.io/node-name": [node] };
  const authenticated = kind !== "bad";
  const status = { authenticated, audiences: ["coral"], user: { username, extra } };
  return { status: 201, body: { status } };
}

async function until(what: string, look: () => boolean | undefined): Promise<void> {
  for (const end = Date.now() + 30_000; !look(); await sleep(5)) {
    assert.ok(Date.now() < end, `${what} within 30 s`);
  }
}

function asSlot(outcome: Slot | { readonly retryAfterMs: number }): Slot {
  assert.ok("lost" in outcome, "a slot");
  return outcome;
}

describe("two replicas and their agents, over TLS", () => {
  test("any replica gives logins, to agents alone", async () => {
    await using scene = await Scene.start();
    const replicas = [
      await scene.replica("coral-a", "127.0.0.1"),
      await scene.replica("coral-b", "127.0.0.2"),
    ];
    for (const replica of replicas) {
      const agent = scene.agent("node1", replica);
      const expected = [{ serverAddress: "one.test", username: "anna", password: "secret-reef" }];
      assert.deepEqual(await eventually(async () => agent.loginsFor(app, scope)), expected);
      assert.deepEqual(await agent.loginsFor("one.test/a/other:1", scope), []);
      for (const kind of ["bad", "foreign"]) {
        const thief = scene.agent("node1", replica, kind);
        await assert.rejects(thief.loginsFor(app, scope), { retryable: false });
        await assert.rejects(thief.acquire([plan], scope), { retryable: false });
      }
    }
    assert.doesNotMatch(scene.lines.join(""), /anna|secret-reef|eyJ/);
  });

  test("the leader gives slots through every replica, and a new one takes them over", async () => {
    await using scene = await Scene.start();
    const { clock } = scene;
    const a = await scene.replica("coral-a", "127.0.0.1");
    await until("a leader", () => a.slots.table !== undefined);
    const b = await scene.replica("coral-b", "127.0.0.2");
    await clock.advance(slotMs);
    const first = scene.agent("node1", b);
    const second = scene.agent("node2", a);
    // A replica under load may not have counted the nodes yet, or not found who leads.
    const held = await eventually(async () => asSlot(await first.acquire([plan], scope)));
    assert.equal(a.slots.table?.holding(plan), 1);
    assert.ok("retryAfterMs" in (await second.acquire([plan], scope)));

    await a.end();
    await until("another leader", () => b.slots.table !== undefined);
    const third = scene.agent("node2", b);
    assert.ok("retryAfterMs" in (await third.acquire([plan], scope)));
    await clock.advance(12_000);
    await until("the holder to be known", () => b.slots.table?.holding(plan) === 1);
    assert.equal(held.lost.aborted, false);
    await held[Symbol.asyncDispose]();
    await until("the slot to be free", () => b.slots.table?.holding(plan) === 0);
    await clock.advance(slotMs);
    await eventually(async () => asSlot(await third.acquire([plan], scope)));
  });
});

/** Tries until something is not refused for the moment. */
async function eventually<T>(attempt: () => Promise<T>): Promise<T> {
  for (const end = Date.now() + 30_000; ; await sleep(10)) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > end) throw error;
    }
  }
}
