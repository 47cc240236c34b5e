import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";

import { imageLabel } from "#api/v1/labels.ts";
import { imagePlans, imagePolicies, images } from "#api/v1/resources.ts";
import { systemClock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import { KubeClient } from "#kube/client.ts";
import { Informer } from "#kube/informer.ts";
import { namespaces, nodes, pods } from "#kube/resource.ts";
import type { Node } from "#kube/types.ts";
import { jsonLog, silentLog } from "#telemetry/log.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { anImage } from "#test/kinds.ts";
import { aNode, aPlan, aPolicy, ownPod } from "#test/pod-facts.ts";
import { admissionCaches } from "./caches.ts";
import { ClusterFacts } from "./cluster-facts.ts";
import { fixedFeed } from "./feed.ts";

const nginx = "docker.io/library/nginx:1.29";
const redis = "docker.io/library/redis:8";
const everyNode = (): boolean => true;

interface Scene {
  readonly server: FakeApiServer;
  readonly facts: ClusterFacts;
  readonly lines: readonly string[];
  /** Waits until the facts are so. */
  readonly become: (isSo: (facts: ClusterFacts) => boolean) => Promise<void>;
}

/** Follows a cluster while a scene is played. */
async function following(
  { signal }: { signal: AbortSignal },
  server: FakeApiServer,
  play: (scene: Scene) => Promise<void>,
): Promise<void> {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(20_000)]);
  await using client = new KubeClient({ config: server.config, log: silentLog, userAgent: "t/1" });
  const common = { client, clock: systemClock, log: silentLog };
  const caches = {
    ...admissionCaches(common),
    plans: new Informer({ ...common, resource: imagePlans }),
    images: new Informer({ ...common, resource: images }),
    nodes: new Informer({ ...common, resource: nodes }),
    ownPods: new Informer({ ...common, resource: pods, namespace: "coral-system" }),
  };
  const lines: string[] = [];
  const log = jsonLog({ level: "info", write: (line) => lines.push(line) });
  using facts = new ClusterFacts({ ...caches, ownNamespace: "coral-system", log });
  assert.equal(facts.isFilled, false);
  const stop = new AbortController();
  const group = new TaskGroup(stop.signal);
  const running = Promise.all(
    Object.values(caches).map((informer) => group.run((scope) => informer.run(scope))),
  );
  const become: Scene["become"] = async (isSo) => {
    while (!isSo(facts)) {
      limited.throwIfAborted();
      await setImmediate();
    }
  };
  try {
    await become(({ isFilled }) => isFilled);
    await play({ server, facts, lines, become });
  } finally {
    stop.abort();
    await running;
  }
}

function startServer(): Promise<FakeApiServer> {
  return FakeApiServer.start({ resources: [imagePolicies, imagePlans, images, namespaces] });
}

/** The status of what is created is dropped, as by the real one. */
function addNode(server: FakeApiServer, node: Node): void {
  server.create(nodes, node);
  server.merge(nodes, node.metadata.name, { status: node.status });
}

describe("ClusterFacts", () => {
  test("knows what is there when it is filled", async (t) => {
    await using server = await startServer();
    addNode(server, aNode("n1", { [nginx]: "available", [redis]: "available" }));
    addNode(server, aNode("n2", { [nginx]: "available", [redis]: "pending" }));
    addNode(server, aNode("n3", { [nginx]: "available" }, { isCordoned: true }));
    server.create(imagePlans, aPlan([nginx, redis]));
    server.create(namespaces, { metadata: { name: "team", labels: { tier: "gold" } } });
    server.create(imagePolicies, aPolicy("low"));
    server.create(imagePolicies, aPolicy("high", { priority: 5 }));
    await following(t, server, async ({ facts }) => {
      assert.deepEqual(
        facts.policies.map(({ name }) => name),
        ["high", "low"],
      );
      assert.deepEqual(facts.namespaceLabels("team"), { tier: "gold" });
      assert.equal(facts.namespaceLabels("other"), undefined);
      assert.deepEqual(facts.image(nginx, "team"), {
        label: imageLabel(nginx),
        availableNodes: 2,
        plannedNodes: 3,
        isPrivate: false,
        isOfNamespace: true,
      });
      assert.equal(facts.image("docker.io/library/other:1", "team"), undefined);
      const both = [nginx, redis].map(imageLabel);
      assert.equal(facts.countHolding(both, everyNode, 10), 1);
      assert.equal(facts.countFitting(everyNode, 10), 2);
      assert.equal(facts.countFitting(everyNode, 1), 1);
      assert.equal(
        facts.countFitting(({ name }) => name === "n2", 10),
        1,
      );
      assert.deepEqual(facts.nodesHolding(imageLabel(nginx)), ["n1", "n2"]);
      assert.equal(facts.alwaysPulls, false);
    });
  });

  test("follows nodes that come, change and go", async (t) => {
    await using server = await startServer();
    server.create(imagePlans, aPlan([nginx]));
    await following(t, server, async ({ facts, become }) => {
      const available = (): number | undefined => facts.image(nginx, "team")?.availableNodes;
      assert.equal(available(), 0);
      addNode(server, aNode("n1", { [nginx]: "available" }));
      await become(() => available() === 1);
      server.merge(nodes, "n1", { spec: { unschedulable: true } });
      await become(() => available() === 0);
      assert.equal(facts.image(nginx, "team")?.plannedNodes, 1);
      server.merge(nodes, "n1", { spec: { unschedulable: null } });
      await become(() => available() === 1);
      server.merge(nodes, "n1", { metadata: { labels: { [imageLabel(nginx)]: "error" } } });
      await become(() => available() === 0);
      server.delete(nodes, "n1");
      await become(() => facts.image(nginx, "team")?.plannedNodes === 0);
    });
  });

  test("follows policies within a moment, and leaves out those that make no sense", async (t) => {
    await using server = await startServer();
    server.create(imagePolicies, aPolicy("bad", { images: ["nginx"] }));
    await following(t, server, async ({ facts, lines, become }) => {
      assert.equal(facts.policies.length, 0);
      assert.equal(lines.length, 1);
      assert.match(lines[0] ?? "", /"ImagePolicy ignored".*"bad".*spec\.images\[0\]/);
      server.merge(imagePolicies, "bad", { spec: { images: ["**/nginx:*"] } });
      await become(({ policies }) => policies.length === 1);
      assert.equal(facts.policies[0]?.selectsImage(nginx), true);
      server.delete(imagePolicies, "bad");
      await become(({ policies }) => policies.length === 0);
    });
  });

  test("follows Coral's own pods", async (t) => {
    await using server = await startServer();
    await following(t, server, async ({ facts, become }) => {
      let changes = 0;
      using _ = facts.onAlwaysPulls(() => changes++);
      server.create(pods, ownPod("agent", ["Always"]));
      await become(({ alwaysPulls }) => alwaysPulls);
      server.create(pods, ownPod("controller", ["IfNotPresent"]));
      await become(({ alwaysPulls }) => !alwaysPulls);
      assert.equal(changes, 2);
    });
  });

  describe("of an image that needs a login", () => {
    const plans = fixedFeed([
      aPlan([nginx], { namespace: "owner", usesLogins: true }),
      aPlan([nginx, redis], { namespace: "guest" }),
    ]);
    const facts = new ClusterFacts({ ...emptyFeeds(), plans });

    test("knows that it is private, whoever asks", () => {
      for (const namespace of ["owner", "guest", "stranger"]) {
        assert.equal(facts.image(nginx, namespace)?.isPrivate, true, namespace);
      }
      assert.equal(facts.image(redis, "guest")?.isPrivate, false);
    });

    test("counts it as a namespace's own only where an Image has a login", () => {
      assert.equal(facts.image(nginx, "owner")?.isOfNamespace, true);
      assert.equal(facts.image(nginx, "guest")?.isOfNamespace, false);
      assert.equal(facts.image(redis, "guest")?.isOfNamespace, true);
      assert.equal(facts.image(redis, "stranger")?.isOfNamespace, false);
    });
  });

  test("takes the word of an Image without node labels for where its images are", () => {
    const counts = { available: 3, pending: 1, error: 0, unknown: 0 };
    const status = {
      observedGeneration: 1,
      totalNodes: 4,
      totalImages: 1,
      condition: counts,
      images: [{ reference: nginx, label: "", ...counts }],
    };
    const images = fixedFeed([{ ...anImage({ nodeLabels: "None" }), status }]);
    using facts = new ClusterFacts({ ...emptyFeeds(), images, plans: fixedFeed([aPlan([nginx])]) });

    assert.equal(facts.image(nginx, "team")?.availableNodes, 3);
    assert.equal(facts.image(nginx, "team")?.plannedNodes, 4);
  });
});

function emptyFeeds(): ConstructorParameters<typeof ClusterFacts>[0] {
  const none = fixedFeed([]);
  return {
    policies: none,
    plans: none,
    images: none,
    nodes: none,
    namespaces: none,
    ownPods: none,
    ownNamespace: "coral-system",
    log: silentLog,
  };
}
