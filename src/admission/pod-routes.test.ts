import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { ImagePolicySpec } from "#api/v1/image-policy.ts";
import { imageLabel } from "#api/v1/labels.ts";
import { isJsonObject, textOf, type JsonObject } from "#json/json.ts";
import { requireObject } from "#kube/shape.ts";
import { silentLog, type Log } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import { aNode, aPlan, aPolicy } from "#test/pod-facts.ts";
import { ClusterFacts } from "./facts/cluster-facts.ts";
import { fixedFeed } from "./facts/feed.ts";
import { podRoutes } from "./pod-routes.ts";

const image = "docker.io/library/nginx:1.29";
const inject = "image.stvz.io/inject";
const absent = "registry.example/absent:1";

function factsWith(policy?: Partial<ImagePolicySpec>, hasSynced = true): ClusterFacts {
  const policies = fixedFeed(policy ? [aPolicy("rule", policy)] : []);
  return new ClusterFacts({
    policies: { ...policies, hasSynced },
    plans: fixedFeed([aPlan([image])]),
    images: fixedFeed([]),
    nodes: fixedFeed([aNode("a", { [image]: "available" }), aNode("b", { [image]: "available" })]),
    namespaces: fixedFeed([{ metadata: { name: "team" } }]),
    ownPods: fixedFeed([]),
    ownNamespace: "coral-system",
    log: silentLog,
  });
}

interface Asked {
  path?: string;
  facts?: ClusterFacts;
  metrics?: Registry;
  log?: Log;
  request?: JsonObject;
}

/** The `response` of an AdmissionReview. */
async function ask({
  path = "/mutate/pods",
  facts = factsWith(),
  metrics = new Registry(),
  log = silentLog,
  request = {},
}: Asked): Promise<JsonObject> {
  const route = podRoutes({ facts, log, metrics })[path];
  assert.ok(typeof route === "object" && "post" in route);
  const body = {
    apiVersion: "admission.k8s.io/v1",
    kind: "AdmissionReview",
    request: {
      uid: "u-1",
      kind: { group: "", version: "v1", kind: "Pod" },
      operation: "CREATE",
      namespace: "team",
      ...request,
    },
  };
  const { signal } = new AbortController();
  const reply = await route.post({ body, headers: {}, signal });
  const review: unknown = JSON.parse(reply.body);
  return requireObject(requireObject(review, "review")["response"], "response");
}

function patchIn(response: JsonObject): JsonObject[] {
  const text = Buffer.from(textOf(response["patch"]), "base64").toString();
  const patch: unknown = text === "" ? [] : JSON.parse(text);
  return Array.isArray(patch) ? patch.filter(isJsonObject) : [];
}

function aPod(annotations: JsonObject, name = image, spec: JsonObject = {}): JsonObject {
  const metadata = { name: "web", namespace: "team", annotations };
  const containers = [
    { name: "main", image: name, imagePullPolicy: "Always", env: [{ name: "A", value: "sesame" }] },
  ];
  return { apiVersion: "v1", kind: "Pod", metadata, spec: { containers, ...spec } };
}

const asking = aPod({ [inject]: "pull-policy,selectors" });
const untouched = { uid: "u-1", allowed: true };

describe("POST /mutate/pods", () => {
  test("changes an annotated pod", async () => {
    const response = await ask({ request: { object: asking } });
    const patch = patchIn(response);

    assert.equal(response["allowed"], true);
    assert.equal(response["patchType"], "JSONPatch");
    assert.deepEqual(
      patch.find(({ path }) => path === "/spec/containers/0/imagePullPolicy")?.["value"],
      "Never",
    );
    assert.ok(JSON.stringify(patch).includes(imageLabel(image)));
  });

  test("lets a pod in as it is, with a warning, while caches fill", async () => {
    const facts = factsWith(undefined, false);
    const response = await ask({ facts, request: { object: asking } });

    assert.equal(response["allowed"], true);
    assert.deepEqual(patchIn(response), []);
    assert.ok(Array.isArray(response["warnings"]) && response["warnings"].length === 1);
  });

  test("refuses nothing: that is the other webhook's", async () => {
    const facts = factsWith({ mode: "Force", admit: "OnlyAvailable" });

    assert.equal((await ask({ facts, request: { object: aPod({}, absent) } }))["allowed"], true);
  });

  const left: Record<string, JsonObject> = {
    "a pod that asks for nothing": { object: aPod({}) },
    "a pod of the system": { object: asking, namespace: "kube-system" },
    "a pod of Coral's": { object: asking, namespace: "coral-system" },
    "an update of a pod": { object: asking, oldObject: asking, operation: "UPDATE" },
    "a deletion": { oldObject: asking, operation: "DELETE" },
    "another subresource": { object: asking, oldObject: asking, subResource: "status" },
    "another kind": { object: asking, kind: { group: "example.com", version: "v1", kind: "Pod" } },
    "no object": {},
    "a pod that is none": { object: { metadata: [], spec: { containers: "all" } } },
  };
  for (const [what, request] of Object.entries(left)) {
    test(`leaves alone ${what}`, async () => {
      assert.deepEqual(await ask({ request }), untouched);
    });
  }

  test("logs of a pod its namespace and name alone, and counts it", async () => {
    const lines: string[] = [];
    const write = (message: string, fields?: object): void =>
      void lines.push(`${message} ${JSON.stringify(fields)}`);
    const log = { ...silentLog, debug: write, info: write, warn: write, error: write };
    const metrics = new Registry();
    await ask({ log, metrics, request: { object: asking, name: "web" } });
    await ask({ log, metrics, request: { object: aPod({}), name: "web" } });

    assert.match(lines.join("\n"), /"namespace":"team","name":"web"/);
    assert.doesNotMatch(lines.join("\n"), /sesame|nginx/);
    const page = metrics.render();
    assert.match(page, /coral_admission_pods_total\{result="changed",decided_by="annotation"\} 1/);
    assert.match(page, /coral_admission_pods_total\{result="unchanged",decided_by="nobody"\} 1/);
    assert.match(
      page,
      /coral_admission_duration_seconds_count\{webhook="pods",result="changed"\} 1/,
    );
  });
});

describe("POST /validate/pods", () => {
  const path = "/validate/pods";
  const facts = factsWith({ mode: "Force", admit: "OnlyAvailable", nodes: "Required" });

  test("refuses an image that is nowhere, and says so", async () => {
    const metrics = new Registry();
    const response = await ask({ path, facts, metrics, request: { object: aPod({}, absent) } });
    const status = requireObject(response["status"], "status");

    assert.equal(response["allowed"], false);
    assert.equal(status["reason"], "Forbidden");
    assert.ok(textOf(status["message"]).includes(absent));
    assert.match(
      metrics.render(),
      /coral_admission_pods_total\{result="refused",decided_by="force"\} 1/,
    );
  });

  test("lets others in, and changes nothing", async () => {
    assert.deepEqual(await ask({ path, facts, request: { object: aPod({}) } }), untouched);
  });

  test("of an update, refuses what is new alone", async () => {
    const update = { operation: "UPDATE", object: aPod({ a: "b" }, absent) };
    const response = await ask({ path, facts, request: { ...update, oldObject: aPod({}) } });

    assert.equal(response["allowed"], false);
    assert.deepEqual(
      await ask({ path, facts, request: { ...update, oldObject: aPod({}, absent) } }),
      untouched,
    );
  });
});

function aDeployment(annotations: JsonObject): JsonObject {
  const template = { metadata: { labels: { app: "web" } }, spec: {} };
  return { metadata: { name: "web", annotations }, spec: { template } };
}

describe("POST /mutate/workloads", () => {
  const path = "/mutate/workloads";
  const kind = { group: "apps", version: "v1", kind: "Deployment" };

  const object = aDeployment({ [inject]: "pull-policy", other: "x" });

  test("copies Coral's annotations to the pod template", async () => {
    assert.deepEqual(patchIn(await ask({ path, request: { kind, object } })), [
      {
        op: "add",
        path: "/spec/template/metadata/annotations",
        value: { [inject]: "pull-policy" },
      },
    ]);
  });

  const left: Record<string, JsonObject> = {
    "a workload without any": { kind, object: aDeployment({}) },
    "an update that leaves them": { kind, object, oldObject: object, operation: "UPDATE" },
    "another's kind of the same name": { kind: { ...kind, group: "example.com" }, object },
    "a scale": { kind, object, subResource: "scale" },
    "a workload of the system": { kind, object, namespace: "kube-system" },
    "a deletion": { kind, oldObject: object, operation: "DELETE" },
  };
  for (const [what, request] of Object.entries(left)) {
    test(`leaves alone ${what}`, async () => {
      assert.deepEqual(await ask({ path, request }), untouched);
    });
  }
});
