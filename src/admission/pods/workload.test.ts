import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { isJsonObject, type JsonObject } from "#json/json.ts";
import { jsonPatch } from "#test/fake-api-server-patch.ts";
import { workloadPatch } from "./workload.ts";

const inject = "image.stvz.io/inject";
const include = "image.stvz.io/include";
const path = "/spec/template/metadata/annotations/image.stvz.io~1inject";

interface Annotations {
  readonly own?: JsonObject;
  readonly template?: JsonObject;
  readonly owner?: JsonObject;
}

function aWorkload({ own = {}, template, owner }: Annotations): JsonObject {
  const metadata = { labels: { app: "web" }, ...(template && { annotations: template }) };
  return {
    metadata: { name: "web", annotations: own, ...(owner && { ownerReferences: [owner] }) },
    spec: { replicas: 2, template: { metadata, spec: { containers: [] } } },
  };
}

function created(kind: string, annotations: Annotations): ReturnType<typeof workloadPatch> {
  return workloadPatch(kind, aWorkload(annotations), undefined, "CREATE");
}

function updated(kind: string, before: Annotations, after: Annotations) {
  return workloadPatch(kind, aWorkload(after), aWorkload(before), "UPDATE");
}

describe("workloadPatch()", () => {
  test("copies Coral's annotations to the pod template, and no others", () => {
    const own = {
      [inject]: "selectors",
      [include]: "web",
      "image.stvz.io/injected": "true",
      x: "y",
    };

    assert.deepEqual(created("Deployment", { own }), [
      {
        op: "add",
        path: "/spec/template/metadata/annotations",
        value: { [inject]: "selectors", [include]: "web" },
      },
    ]);
    assert.deepEqual(created("Deployment", { own: { x: "y" } }), []);
  });

  test("leaves other annotations of the template in place", () => {
    const own = { [inject]: "selectors" };

    assert.deepEqual(created("StatefulSet", { own, template: { x: "y" } }), [
      { op: "add", path, value: "selectors" },
    ]);
  });

  test("knows where each kind has its template", () => {
    const own = { [inject]: "selectors" };
    for (const kind of [
      "Deployment",
      "StatefulSet",
      "DaemonSet",
      "ReplicaSet",
      "ReplicationController",
      "Job",
    ]) {
      assert.equal(created(kind, { own }).length, 1, kind);
    }
    const { spec, ...rest } = aWorkload({ own });
    const cronJob = { ...rest, spec: { schedule: "* * * * *", jobTemplate: { spec } } };
    const [operation] = workloadPatch("CronJob", cronJob, undefined, "CREATE");
    assert.equal(operation?.path, "/spec/jobTemplate/spec/template/metadata/annotations");
    assert.deepEqual(created("Pod", { own }), []);
    assert.deepEqual(created("constructor", { own }), []);
  });

  test("changes nothing more of its own result", () => {
    const object = aWorkload({ own: { [inject]: "selectors", [include]: "web" } });
    const patched = jsonPatch(object, workloadPatch("Deployment", object, undefined, "CREATE"));

    assert.ok(isJsonObject(patched));
    assert.deepEqual(workloadPatch("Deployment", patched, undefined, "CREATE"), []);
  });

  test("leaves a workload alone that a controller has made", () => {
    const own = { [inject]: "selectors" };
    const owner = { kind: "Deployment", controller: true };

    assert.deepEqual(created("ReplicaSet", { own, owner }), []);
    assert.equal(
      created("ReplicaSet", { own, owner: { kind: "Set", controller: false } }).length,
      1,
    );
  });

  test("starts no rollout with an update that changes no annotation of Coral's", () => {
    const own = { [inject]: "selectors" };

    assert.deepEqual(updated("Deployment", { own }, { own }), []);
    assert.deepEqual(updated("Deployment", { own }, { own: { ...own, x: "y" } }), []);
  });

  test("follows an annotation that changes", () => {
    const template = { [inject]: "selectors" };
    const patch = updated(
      "Deployment",
      { own: template, template },
      { own: { [inject]: "pull-policy" }, template },
    );

    assert.deepEqual(patch, [{ op: "add", path, value: "pull-policy" }]);
  });

  test("takes an annotation back that goes away, unless the template has another", () => {
    const own = { [inject]: "selectors" };

    assert.deepEqual(updated("Deployment", { own, template: own }, { template: own }), [
      { op: "remove", path },
    ]);
    assert.deepEqual(
      updated("Deployment", { own, template: own }, { template: { [inject]: "x" } }),
      [],
    );
    assert.deepEqual(updated("Deployment", { own, template: own }, {}), []);
  });

  test("changes a Job only when it is made", () => {
    const own = { [inject]: "selectors" };

    assert.equal(created("Job", { own }).length, 1);
    assert.deepEqual(updated("Job", {}, { own }), []);
    assert.equal(updated("CronJob", {}, { own }).length, 0, "its template is elsewhere");
  });

  test("leaves what is malformed to the API server", () => {
    const metadata = { annotations: { [inject]: "selectors" } };
    for (const spec of [undefined, null, "x", [], { template: 5 }, { template: { metadata: 5 } }]) {
      assert.deepEqual(workloadPatch("Deployment", { metadata, spec }, undefined, "CREATE"), []);
    }
    const text = { template: { metadata: { annotations: "x" } } };
    assert.deepEqual(
      workloadPatch("Deployment", { metadata, spec: text }, undefined, "CREATE"),
      [],
    );
    const strange = { metadata: { annotations: { [inject]: 5 } }, spec: { template: {} } };
    assert.deepEqual(workloadPatch("Deployment", strange, undefined, "CREATE"), []);
  });
});
