import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { imagePlans, imagePolicies, images } from "#api/v1/resources.ts";
import { KubeClient } from "#kube/client.ts";
import { ApiError } from "#kube/errors.ts";
import { namespaces, pods } from "#kube/resource.ts";
import { silentLog } from "#telemetry/log.ts";
import { FakeApiServer } from "#test/fake-api-server.ts";
import { creatorOf, readCluster, readPod, whoAmI } from "./explain-cluster.ts";

const ownNamespace = "coral-system";

async function aCluster(resources = [images, imagePlans, imagePolicies, namespaces]) {
  const stack = new AsyncDisposableStack();
  const server = stack.use(await FakeApiServer.start({ resources }));
  const { config } = server;
  const client = stack.use(new KubeClient({ config, log: silentLog, userAgent: "test" }));
  return { server, client, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

function policy(name: string, spec: object): object {
  const common = { priority: 0, mode: "Force", pullPolicy: "Never", nodes: "Required" };
  const rest = { minNodes: 2, admit: "Any", enforcement: "Enforce" };
  return { metadata: { name }, spec: { ...common, ...rest, ...spec } };
}

describe("readCluster()", () => {
  test("leaves out what cannot be used, as the controller does, and says so", async ({
    signal,
  }) => {
    await using cluster = await aCluster();
    cluster.server.create(imagePolicies, policy("good", {}));
    cluster.server.create(imagePolicies, policy("bad", { images: ["nginx"] }));
    cluster.server.create(imagePolicies, { metadata: { name: "worse" }, spec: { mode: 1 } });
    const { facts, notes } = await readCluster(cluster.client, { ownNamespace, signal });

    assert.ok(facts.isFilled);
    assert.deepEqual(
      facts.policies.map(({ name }) => name),
      ["good"],
    );
    assert.deepEqual(notes, [
      'Coral has no pods in the namespace "coral-system": see --coral-namespace',
      'ImagePolicy "bad" makes no sense, and is ignored: its status says why',
    ]);
  });

  test("knows that the API server always pulls, by Coral's own pods", async ({ signal }) => {
    await using cluster = await aCluster();
    cluster.server.create(pods, {
      metadata: {
        name: "controller",
        namespace: ownNamespace,
        labels: { "app.kubernetes.io/name": "coral" },
      },
      spec: { containers: [{ name: "controller", image: "coral", imagePullPolicy: "Always" }] },
    });
    const { facts, notes } = await readCluster(cluster.client, { ownNamespace, signal });

    assert.equal(facts.alwaysPulls, true);
    assert.deepEqual(notes, []);
  });

  test("does without Coral's pods if they may not be listed", async ({ signal }) => {
    await using cluster = await aCluster();
    cluster.server.fail({ status: 403, matching: ({ path }) => path.includes(ownNamespace) });
    const { notes } = await readCluster(cluster.client, { ownNamespace, signal });

    assert.match(notes.join(), /^the pods of "coral-system" cannot be read/);
  });

  test("fails where there is no Coral", async ({ signal }) => {
    await using cluster = await aCluster([namespaces]);
    const reading = readCluster(cluster.client, { ownNamespace, signal });

    await assert.rejects(reading, (error) => error instanceof ApiError && error.status === 404);
  });
});

describe("readPod()", () => {
  test("reads a pod with fields that nobody here knows", async ({ signal }) => {
    await using cluster = await aCluster();
    const spec = { containers: [], schedulerName: "mine" };
    cluster.server.create(pods, { metadata: { name: "web", namespace: "shop" }, spec });
    const key = { namespace: "shop", signal };

    assert.deepEqual((await readPod(cluster.client, { name: "web", ...key }))?.["spec"], spec);
    assert.equal(await readPod(cluster.client, { name: "gone", ...key }), undefined);
  });
});

describe("creatorOf()", () => {
  const owner = { apiVersion: "apps/v1", kind: "StatefulSet", name: "db", uid: "u" };

  test("is the controller that makes pods for their owner", () => {
    const creator = creatorOf({ metadata: { ownerReferences: [{ ...owner, controller: true }] } });
    assert.equal(creator?.user, "system:serviceaccount:kube-system:statefulset-controller");
  });

  test("is nobody known for others", () => {
    const custom = { ...owner, kind: "Sandwich", controller: true };
    for (const ownerReferences of [undefined, null, [], [owner], [custom], ["?"]]) {
      assert.equal(creatorOf({ metadata: { ownerReferences } }), undefined);
    }
  });
});

describe("whoAmI()", () => {
  test("asks the API server", async ({ signal }) => {
    const userInfo = { username: "alice", groups: ["dev", 1] };
    const client = {
      request: () => Promise.resolve({ status: 201, body: { status: { userInfo } } }),
    };
    assert.deepEqual(await whoAmI(client, { signal }), { user: "alice", groups: ["dev"] });
  });

  test("does without an answer", async ({ signal }) => {
    await using cluster = await aCluster();
    assert.equal(await whoAmI(cluster.client, { signal }), undefined);
  });
});
