import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test } from "node:test";

import type { ImageStatus } from "#api/v1/image.ts";
import { imageLabel } from "#api/v1/labels.ts";
import { imagePlans, images, nodeReports } from "#api/v1/resources.ts";
import { systemClock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import { KubeClient } from "#kube/client.ts";
import type { EventRecord } from "#kube/events.ts";
import { runAsLeader } from "#kube/leader-election.ts";
import { leases, nodes, pods } from "#kube/resource.ts";
import type { LoginProviders } from "#secrets/repository-logins.ts";
import type { Log } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import { noProviders } from "#test/credential-providers.ts";
import { FakeApiServer, type SeenRequest } from "#test/fake-api-server.ts";
import { anImage, aNodeReport } from "#test/kinds.ts";
import { controllerCaches } from "./caches.ts";
import { Controller, type PullSecretCache } from "./controller.ts";
import type { Quota } from "./image/quota.ts";
import type { RegistryLookup } from "./image/registry-lookup.ts";

const bookworm = "docker.io/library/debian:bookworm";
const settings = {
  statusIntervalMs: 100,
  newNodeGraceMs: 0,
  agentGraceMs: 0,
  resolveIntervalMs: 60_000,
  quota: { allowedRegistries: [], references: 0, bytesPerNode: 0 },
};
const key = "team/tools";

interface Line {
  level: string;
  message: string;
  fields: unknown;
}

function recordingLog(lines: Line[]): Log {
  const at =
    (level: string) =>
    (message: string, fields?: unknown): void =>
      void lines.push({ level, message, fields });
  const log: Log = {
    error: at("error"),
    warn: at("warn"),
    info: at("info"),
    debug() {},
    child: () => log,
  };
  return log;
}

const noSecrets: PullSecretCache = {
  revisionOf: () => undefined,
  problemsOf: () => [],
  entriesFor: () => [],
  onChange: () => ({ [Symbol.dispose]() {} }),
};

function sizeOn(platform: string): { platform: string; sizeBytes: number } {
  return { platform, sizeBytes: 1_000 };
}

/** A registry that has one small image under every name and tag. */
function aRegistry({ digest = `sha256:${"a".repeat(64)}` } = {}): RegistryLookup {
  return {
    resolve: async () => ({ digest }),
    sizes: async (_reference, _digest, { isWanted }) =>
      ["linux/amd64", "linux/arm64"].filter(isWanted).map(sizeOn),
    tags: async () => ["1.0", "1.1", "2.0"],
  };
}

/** Runs a replica until its scope ends. */
async function replica(
  server: FakeApiServer,
  identity: string,
  {
    lines = [],
    events = [],
    registry = aRegistry(),
    quota = settings.quota,
    providers = noProviders,
  }: {
    lines?: Line[];
    events?: EventRecord[];
    registry?: RegistryLookup;
    quota?: Quota;
    providers?: LoginProviders;
  } = {},
): Promise<AsyncDisposable> {
  const stop = new AbortController();
  const log = recordingLog(lines);
  const client = new KubeClient({ config: server.config, log, userAgent: identity });
  const common = { client, clock: systemClock, log };
  const caches = controllerCaches(common, { namespace: "coral-system" });
  const controller = new Controller(
    { ...settings, quota },
    {
      ...common,
      ...caches,
      registry,
      pullSecrets: noSecrets,
      providers,
      recorder: { record: (event) => void events.push(event) },
      random: Math.random,
      metrics: new Registry(),
    },
  );
  const group = new TaskGroup(stop.signal);
  const running = Promise.all([
    ...Object.values(caches).map((informer) => group.run((signal) => informer.run(signal))),
    group.run(async (signal) => {
      await Promise.all(Object.values(caches).map((informer) => informer.synced({ signal })));
      const election = { namespace: "coral-system", name: "coral-controller", identity };
      const times = { leaseDurationMs: 3_000, renewDeadlineMs: 2_500, retryPeriodMs: 50 };
      await runAsLeader({ ...common, ...election, ...times, signal }, (leading) =>
        controller.lead(leading),
      );
    }),
  ]);
  running.catch(() => {});
  await Promise.all(Object.values(caches).map((informer) => informer.synced(stop)));
  return {
    async [Symbol.asyncDispose]() {
      stop.abort(new Error("The test is over"));
      await running.catch(() => {});
      controller[Symbol.dispose]();
      await client[Symbol.asyncDispose]();
    },
  };
}

async function startServer(): Promise<FakeApiServer> {
  return FakeApiServer.start({ resources: [images, imagePlans, nodeReports] });
}

function addNode(server: FakeApiServer, name: string, labelled: Record<string, string> = {}): void {
  server.create(nodes, { metadata: { name, labels: { team: "x", ...labelled } } });
  const labels = {
    "app.kubernetes.io/name": "coral",
    "app.kubernetes.io/component": "agent",
  };
  const metadata = { name: `agent-${name}`, namespace: "coral-system", labels };
  server.create(pods, { metadata, spec: { nodeName: name } });
  const conditions = [{ type: "Ready", status: "True" }];
  server.merge(pods, `coral-system/agent-${name}`, { status: { conditions } });
}

function addImage(server: FakeApiServer): void {
  const { spec } = anImage();
  server.create(images, { metadata: { name: "tools", namespace: "team" }, spec });
}

function report(
  server: FakeApiServer,
  name: string,
  state: "available" | "pending" | "error",
): void {
  const { status } = aNodeReport(name, { [bookworm]: state });
  if (!server.get(nodeReports, name)) server.create(nodeReports, { metadata: { name } });
  server.merge(nodeReports, name, { status: { ...status } });
}

async function until<T>(what: string, look: () => T | undefined | false, ms = 30_000): Promise<T> {
  const end = Date.now() + ms;
  for (;;) {
    const found = look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await sleep(5);
  }
}

function statusOf(server: FakeApiServer): ImageStatus | undefined {
  const image = server.get(images, key);
  return image && images.parse(image).status;
}

function isReady(server: FakeApiServer): boolean {
  return (
    statusOf(server)?.conditions?.some((c) => c.type === "Ready" && c.status === "True") ?? false
  );
}

function leaderOf(server: FakeApiServer): string | undefined {
  const lease = server.get(leases, "coral-system/coral-controller");
  return lease && leases.parse(lease).spec?.holderIdentity;
}

function label(server: FakeApiServer, name: string): string | undefined {
  const node = server.get(nodes, name);
  return node && nodes.parse(node).metadata.labels?.[imageLabel(bookworm)];
}

/** Waits until nothing has been written for a second, and tells nothing of what was before. */
async function untilQuiet(server: FakeApiServer): Promise<void> {
  for (const end = Date.now() + 30_000; ;) {
    server.requests.length = 0;
    await sleep(1_000);
    if (!server.requests.some(isWrite)) return;
    assert.ok(Date.now() < end, "no second without a write within 30 s");
  }
}

function isWrite({ method, path }: SeenRequest): boolean {
  return method !== "GET" && !path.includes("/leases/");
}

describe("a controller", () => {
  test("makes a plan, a status and labels of an Image, and then writes nothing more", async () => {
    await using server = await startServer();
    const lines: Line[] = [];
    for (const name of ["n1", "n2"]) addNode(server, name);
    await using _one = await replica(server, "one", { lines });
    addImage(server);
    await until("a plan", () => server.get(imagePlans, key));
    for (const name of ["n1", "n2"]) report(server, name, "available");
    await until("Ready", () => isReady(server));
    await until("labels", () => label(server, "n1") && label(server, "n2"));

    assert.equal(label(server, "n1"), "available");
    await untilQuiet(server);
    for (let beat = 0; beat < 5; beat++) {
      server.merge(nodes, "n1", { status: { conditions: [{ type: "Ready", status: "True" }] } });
      server.merge(nodes, "n1", { metadata: { annotations: { beat: String(beat) } } });
      await sleep(50);
    }
    assert.deepEqual(server.requests.filter(isWrite), []);
    assert.deepEqual(
      lines.filter(({ level }) => level !== "info"),
      [],
    );
  });

  test("tells what a registry says an image is, in plan and status, and writes nothing more", async () => {
    await using server = await startServer();
    addNode(server, "n1");
    addImage(server);
    await using _one = await replica(server, "one");
    const digest = `sha256:${"a".repeat(64)}`;
    await until("a digest", () => statusOf(server)?.images?.[0]?.digest === digest);

    assert.equal(imagePlans.parse(server.get(imagePlans, key)).spec.images[0]?.digest, digest);
    await untilQuiet(server);
  });

  test("asks a registry with a provider's login, and has agents ask for it", async () => {
    await using server = await startServer();
    addNode(server, "n1");
    addImage(server);
    const login = { username: "cloud", password: "reef" };
    const providers: LoginProviders = {
      revision: "cloud-1",
      isFor: ({ registry }) => registry === "docker.io",
      loginsFor: async () => [login],
    };
    const shown: unknown[] = [];
    const answering = aRegistry();
    const registry: RegistryLookup = {
      ...answering,
      resolve: async (reference, options) => {
        shown.push(options.logins);
        return answering.resolve(reference, options);
      },
    };
    await using _one = await replica(server, "one", { providers, registry });
    await until("a digest", () => statusOf(server)?.images?.[0]?.digest);

    assert.deepEqual(shown, [[login]]);
    const plan = imagePlans.parse(server.get(imagePlans, key));
    assert.equal(plan.spec.pullSecretsRevision, "cloud-1");
  });

  test("puts the sizes for a node of another platform into the plan", async () => {
    await using server = await startServer();
    addNode(server, "n1");
    addImage(server);
    await using _one = await replica(server, "one");
    const platforms = (): (string | undefined)[] => {
      const plan = server.get(imagePlans, key);
      const sizes = plan && imagePlans.parse(plan).spec.images[0]?.sizes;
      return sizes?.map(({ platform }) => platform) ?? [];
    };
    await until("the first size", () => platforms().length === 1);
    addNode(server, "n2", { "kubernetes.io/arch": "arm64" });
    await until("the second size", () => platforms().length === 2);

    assert.deepEqual(platforms(), ["linux/amd64", "linux/arm64"]);
  });

  test("gives a younger Image what an older one leaves of the quota, and what it gives up", async () => {
    await using server = await startServer();
    addNode(server, "n1");
    const { spec } = anImage();
    const add = (name: string, tag: string): void => {
      const repositories = [{ name: "debian", tags: [tag], listSelection: "listed" }];
      server.create(images, {
        metadata: { name, namespace: "team" },
        spec: { ...spec, repositories },
      });
    };
    add("a", "1");
    add("b", "2");
    await using _one = await replica(server, "one", {
      quota: { ...settings.quota, references: 1 },
    });
    const planned = (name: string): string | undefined => {
      const plan = server.get(imagePlans, `team/${name}`);
      return plan && imagePlans.parse(plan).spec.images[0]?.reference;
    };
    await until("the older one's", () => planned("a"));
    await until("the younger one's plan", () => server.get(imagePlans, "team/b"));
    await until("nothing in it", () => planned("b") === undefined);
    server.delete(images, "team/a");
    await until("the younger one's", () => planned("b") === "docker.io/library/debian:2");
  });

  test("records what happens to an Image, and a new leader repeats nothing", async () => {
    await using server = await startServer();
    addNode(server, "n1");
    addImage(server);
    report(server, "n1", "available");
    const events: EventRecord[] = [];
    const one = await replica(server, "one", { events });
    await until("Ready", () => isReady(server));
    await until("an event", () => events.length > 0);
    await one[Symbol.asyncDispose]();
    await using _two = await replica(server, "two", { events });
    await until("another leader", () => leaderOf(server) === "two");
    await untilQuiet(server);

    assert.deepEqual(
      events.map(({ reason, regarding }) => [reason, regarding.namespace, regarding.name]),
      [["Ready", "team", "tools"]],
    );
  });

  test("clears labels when the Image goes, and no others", async () => {
    await using server = await startServer();
    addNode(server, "n1");
    addImage(server);
    report(server, "n1", "available");
    await using _one = await replica(server, "one");
    await until("a label", () => label(server, "n1"));
    server.merge(nodes, "n1", { metadata: { labels: { "image.stvz.io/team": "mine" } } });
    server.delete(images, key);
    await until("no label", () => label(server, "n1") === undefined);

    assert.deepEqual(nodes.parse(server.get(nodes, "n1")).metadata.labels, {
      team: "x",
      "image.stvz.io/team": "mine",
    });
  });

  test("makes a plan anew that somebody deleted or changed", async () => {
    await using server = await startServer();
    addNode(server, "n1");
    addImage(server);
    await using _one = await replica(server, "one");
    const plan = await until("a plan", () => server.get(imagePlans, key));
    server.delete(imagePlans, key);
    await until("another", () => server.get(imagePlans, key));
    server.merge(imagePlans, key, { spec: { priority: 9 } });
    await until("mended", () => imagePlans.parse(server.get(imagePlans, key)).spec.priority === 0);

    assert.ok(plan);
  });

  // Kubernetes' garbage collector takes up to half a minute for a kind that it has just met.
  test("removes the plan of an Image that is gone, also one that went unseen", async () => {
    await using server = await startServer();
    addImage(server);
    {
      await using _one = await replica(server, "one");
      await until("a plan", () => server.get(imagePlans, key));
      server.delete(images, key);
      await until("no plan", () => server.get(imagePlans, key) === undefined);
      addImage(server);
      await until("a plan again", () => server.get(imagePlans, key));
    }
    server.delete(images, key);
    await using _two = await replica(server, "two");

    await until("no plan", () => server.get(imagePlans, key) === undefined);
  });

  test("an Image made anew under its name gets a plan of its own", async () => {
    await using server = await startServer();
    addNode(server, "n1");
    addImage(server);
    await using _one = await replica(server, "one");
    await until("a plan", () => server.get(imagePlans, key));
    server.delete(images, key);
    addImage(server);
    const uid = images.parse(server.get(images, key)).metadata.uid;

    await until("its own plan", () => {
      const plan = server.get(imagePlans, key);
      return plan && imagePlans.parse(plan).metadata.ownerReferences?.[0]?.uid === uid;
    });
  });

  test("a second replica takes over what happened meanwhile, and doubles nothing", async () => {
    await using server = await startServer();
    addNode(server, "n1");
    addImage(server);
    const one = await replica(server, "one");
    await until("a status", () => statusOf(server));
    await using _two = await replica(server, "two");
    await one[Symbol.asyncDispose]();
    report(server, "n1", "available");

    await until("Ready", () => isReady(server));
    await untilQuiet(server);
  });

  test("a status is right soon after the API server is back", async () => {
    await using server = await startServer();
    addNode(server, "n1");
    addImage(server);
    const lines: Line[] = [];
    await using _one = await replica(server, "one", { lines });
    await until("a status", () => statusOf(server));
    await server.stop();
    report(server, "n1", "available");
    const failed = (): Line[] =>
      lines.filter(({ message }) => message === "cannot renew the lease");
    await until("failures", () => failed().length >= 10);
    await server.start();

    await until("Ready", () => isReady(server));
  });

  test("a node made anew under its name does not hold what the old one reported", async () => {
    await using server = await startServer();
    addNode(server, "n1");
    addImage(server);
    const { uid = "" } = nodes.parse(server.get(nodes, "n1")).metadata;
    const owner = { apiVersion: "v1", kind: "Node", name: "n1", uid };
    server.create(nodeReports, { metadata: { name: "n1", ownerReferences: [owner] } });
    report(server, "n1", "available");
    await using _one = await replica(server, "one");
    await until("Ready", () => isReady(server));
    server.delete(nodes, "n1");
    server.create(nodes, { metadata: { name: "n1" } });

    await until("not Ready", () => !isReady(server) && statusOf(server)?.totalNodes === 1);
    assert.equal(label(server, "n1"), undefined);
  });
});
