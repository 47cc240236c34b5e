import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { Resource } from "#kube/resource.ts";
import { imageUserResources, type ImageUser } from "./workload-kinds.ts";

const digest = `sha256:${"a".repeat(64)}`;

function resourceOf(kind: string): Resource<ImageUser> {
  const resource = imageUserResources().find((each) => each.kind === kind);
  assert.ok(resource);
  return resource;
}

const metadata = { name: "app", namespace: "team", uid: "1", resourceVersion: "2" };
const podSpec = {
  initContainers: [{ name: "i", image: "r.test/init:1" }],
  containers: [
    { name: "c", image: "r.test/app:1" },
    { name: "d", image: "r.test/app:1" },
  ],
  ephemeralContainers: [{ name: "e", image: "r.test/debug:1" }],
  volumes: [
    { name: "v", image: { reference: "r.test/data:1" } },
    { name: "w", emptyDir: {} },
  ],
};
const named = ["r.test/init:1", "r.test/app:1", "r.test/debug:1", "r.test/data:1"];

describe("imageUserResources()", () => {
  test("keep of a pod what it names and what it has, and nothing else", () => {
    const pod = {
      metadata: { ...metadata, labels: { a: "b" }, managedFields: [] },
      spec: podSpec,
      status: {
        initContainerStatuses: [{ imageID: `r.test/init@${digest}` }],
        containerStatuses: [{ imageID: `docker-pullable://r.test/app@${digest}` }],
        ephemeralContainerStatuses: [{ imageID: `r.test/debug@${digest}` }],
      },
    };
    const had = ["init", "app", "debug"].map((name) => `r.test/${name}@${digest}`);

    assert.deepEqual(resourceOf("Pod").parse(pod), { metadata, images: [...named, ...had] });
  });

  const template = { spec: podSpec };
  const objects: Record<string, object> = {
    Deployment: { spec: { replicas: 0, template } },
    ReplicaSet: { spec: { replicas: 0, template } },
    ReplicationController: { spec: { template } },
    StatefulSet: { spec: { template } },
    DaemonSet: { spec: { template } },
    Job: { spec: { template } },
    CronJob: { spec: { jobTemplate: { spec: { template } } } },
    ControllerRevision: { data: { spec: { template } } },
    PodTemplate: { template },
  };
  for (const [kind, object] of Object.entries(objects)) {
    test(`find the images of a ${kind}`, () => {
      assert.deepEqual(resourceOf(kind).parse({ metadata, ...object }).images, named);
    });
  }

  test("know all kinds that are tested here", () => {
    const kinds = imageUserResources().map(({ kind }) => kind);
    assert.deepEqual(kinds.toSorted(), ["Pod", ...Object.keys(objects)].toSorted());
  });

  test("take what looks odd for nothing, and find the rest", () => {
    const { parse } = resourceOf("Pod");
    for (const spec of [undefined, 7, [], { containers: {} }, { containers: [1, null, {}] }]) {
      assert.deepEqual(parse({ metadata, spec }).images, []);
    }
    const volumes = [{ image: "no object" }, { image: { reference: 1 } }];
    const containers = [{ image: 1 }, { image: "Not An Image" }, { image: "r.test/app:1" }];
    assert.deepEqual(parse({ metadata, spec: { containers, volumes } }).images, ["r.test/app:1"]);
  });

  test("read an object with thousands of images in linear time", () => {
    const { parse } = resourceOf("Pod");
    const many = Array.from({ length: 10_000 }, (_, index) => ({ image: `r.test/app:${index}` }));
    const start = performance.now();
    assert.equal(parse({ metadata, spec: { containers: many } }).images.length, 10_000);
    assert.ok(performance.now() - start < 2_000);
  });
});
