import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { aNodeReport } from "#test/kinds.ts";
import { aMirror } from "#test/mirrors.ts";
import { reportSlimmer, slimMirror, slimNode, slimPod } from "./transforms.ts";

test("slimMirror() keeps of the annotations the one that asks for a run", () => {
  const run = { "mirror.stvz.io/run": "now" };
  const last = { "kubectl.kubernetes.io/last-applied-configuration": "{}" };
  const { metadata } = slimMirror(aMirror({}, { annotations: { ...run, ...last } }));

  assert.deepEqual(metadata.annotations, run);
  assert.equal(slimMirror(aMirror({}, { annotations: last })).metadata.annotations, undefined);
});

test("slimNode() keeps what says which pods the node takes", () => {
  const taint = { key: "gpu", value: "yes", effect: "NoSchedule" };
  const images = [{ names: ["r.io/x:1"], sizeBytes: 1 }];
  const node = {
    metadata: { name: "n", labels: { disk: "fast" }, annotations: { a: "b" } },
    spec: {
      podCIDR: "10.0.0.0/24",
      unschedulable: true,
      taints: [{ ...taint, timeAdded: "2026-01-01T00:00:00Z" }],
    },
    status: {
      images,
      conditions: [
        { type: "Ready", status: "True", message: "kubelet is posting ready status" },
        { type: "DiskPressure", status: "False" },
      ],
    },
  };

  assert.deepEqual(slimNode(node), {
    metadata: { name: "n", labels: { disk: "fast" } },
    spec: { unschedulable: true, taints: [taint] },
    status: { conditions: [{ type: "Ready", status: "True" }] },
  });
});

test("slimPod() keeps where the pod is and how its images are pulled", () => {
  const container = { name: "agent", image: "coral", imagePullPolicy: "IfNotPresent" };
  const pod = {
    metadata: { name: "p", namespace: "coral-system" },
    spec: {
      nodeName: "n",
      hostNetwork: true,
      initContainers: [container],
      containers: [container],
    },
  };

  const kept = { name: "agent", imagePullPolicy: "IfNotPresent" };
  assert.deepEqual(slimPod(pod).spec, {
    nodeName: "n",
    initContainers: [kept],
    containers: [kept],
  });
});

describe("reportSlimmer()", () => {
  test("makes equal images of all reports one object", () => {
    const slim = reportSlimmer();
    const [one, other] = [7, 8].map((sizeBytes) =>
      slim(aNodeReport(`n${sizeBytes}`, { "r.io/x:1": { digest: "sha256:1", sizeBytes } })),
    );

    assert.equal(one?.status?.images[0], other?.status?.images[0]);
  });

  test("keeps what is remarked of an image that is there", () => {
    const moved = { digest: "sha256:2", reason: "TagMoved", sizeBytes: 7 };
    const [image] = reportSlimmer()(aNodeReport("n", { "r.io/x:1": moved })).status?.images ?? [];

    assert.deepEqual([image?.reason, image?.digest], ["TagMoved", "sha256:2"]);
  });

  test("keeps the first that a report says of an image", () => {
    const report = aNodeReport("n", { "r.io/x:1": {}, "r.io/y:1": {} });
    const images = [...(report.status?.images ?? []), ...(report.status?.images ?? [])];
    const slimmed = reportSlimmer()({
      ...report,
      ...(report.status && { status: { ...report.status, images } }),
    });

    assert.deepEqual(
      slimmed.status?.images.map(({ reference }) => reference),
      ["r.io/x:1", "r.io/y:1"],
    );
  });

  test("keeps what is told of a failure", () => {
    const failure = {
      state: "error",
      attempts: 3,
      reason: "NotFound",
      message: "no such tag",
      since: "2026-01-02T00:00:00Z",
    } as const;
    const slimmed = reportSlimmer()(aNodeReport("n", { "r.io/x:1": failure }));

    assert.deepEqual(slimmed.status?.images, [{ reference: "r.io/x:1", ...failure }]);
  });
});
