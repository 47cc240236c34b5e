import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { aRequest } from "#test/pod-admission.ts";
import { heldAs, placeOf, readSlots, slotsOf } from "./slots.ts";

describe("readSlots()", () => {
  test("finds images of containers of each kind and of volumes", () => {
    const slots = readSlots({
      spec: {
        initContainers: [{ name: "setup", image: "busybox" }],
        containers: [{ name: "web", image: "nginx:1.29", imagePullPolicy: "Always" }],
        ephemeralContainers: [{ name: "debug", image: "r.io/tool@sha256:short" }],
        volumes: [
          { name: "data", emptyDir: {} },
          { name: "model", image: { reference: "r.io/model:1", pullPolicy: "Never" } },
          { name: "later", image: {} },
        ],
      },
    });

    assert.deepEqual(
      slots.map(({ kind, name, pointer, reference, pullPolicy }) => [
        kind,
        name,
        pointer,
        reference,
        pullPolicy,
      ]),
      [
        [
          "initContainer",
          "setup",
          "/spec/initContainers/0",
          "docker.io/library/busybox:latest",
          undefined,
        ],
        ["container", "web", "/spec/containers/0", "docker.io/library/nginx:1.29", "Always"],
        ["ephemeralContainer", "debug", "/spec/ephemeralContainers/0", undefined, undefined],
        ["imageVolume", "model", "/spec/volumes/1/image", "r.io/model:1", "Never"],
        ["imageVolume", "later", "/spec/volumes/2/image", undefined, undefined],
      ],
    );
  });

  test("passes over what is malformed, and counts it", () => {
    const containers = ["web", null, { name: 5, image: "a" }, { name: "ok", image: 7 }, []];
    const [slot, ...more] = readSlots({ spec: { containers, volumes: "none" } });

    assert.deepEqual([slot?.name, slot?.pointer, slot?.image], ["ok", "/spec/containers/3", ""]);
    assert.deepEqual(more, []);
    for (const spec of [undefined, null, "text", [], 5]) assert.deepEqual(readSlots({ spec }), []);
  });
});

describe("slotsOf()", () => {
  const web = { name: "web", image: "nginx:1.28" };
  const side = { name: "side", image: "busybox" };
  const oldPod = {
    spec: { containers: [web, side], ephemeralContainers: [{ ...side, name: "d1" }] },
  };

  function names(spec: object, subresource = ""): string[] {
    const pod = { spec: { ...oldPod.spec, ...spec } };
    const request = aRequest(pod, { operation: "UPDATE", subresource, oldPod });
    return slotsOf(request).map(({ name }) => name);
  }

  test("names of an update the places whose image is new", () => {
    const containers = [side, { ...web, image: "nginx:1.29" }];

    assert.deepEqual(names({}), []);
    assert.deepEqual(names({ containers }), ["web"]);
  });

  test("names of an update of ephemeral containers those that are new", () => {
    const ephemeralContainers = [
      { ...side, name: "d0" },
      { ...side, name: "d1", image: "other" },
    ];

    assert.deepEqual(names({ ephemeralContainers, containers: [] }, "ephemeralcontainers"), ["d0"]);
  });

  test("tells a container from an image volume of the same name", () => {
    const volumes = [{ name: "web", image: { reference: "nginx:1.28" } }];

    assert.deepEqual(names({ volumes }), ["web"]);
  });
});

describe("heldAs()", () => {
  const digest = `sha256:${"0".repeat(64)}`;

  test("leaves a tag out where there is a digest", () => {
    assert.equal(heldAs(`r.io/app:1@${digest}`), `r.io/app@${digest}`);
    assert.equal(heldAs(`r.io/app@${digest}`), `r.io/app@${digest}`);
    assert.equal(heldAs("r.io/app:1"), "r.io/app:1");
  });
});

describe("placeOf()", () => {
  test("names a place for people", () => {
    const [slot] = readSlots({ spec: { initContainers: [{ name: "setup", image: "a" }] } });
    assert.equal(slot && placeOf(slot), 'init container "setup"');
  });
});
