import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { ImagePolicySpec } from "#api/v1/image-policy.ts";
import { imageLabel } from "#api/v1/labels.ts";
import type { JsonObject } from "#json/json.ts";
import { assertLinear } from "#test/cost.ts";
import { aNode, aPlan, aPolicy, ownPod } from "#test/pod-facts.ts";
import { admit, aRequest, factsOf, type Admitted, type PodWorld } from "#test/pod-admission.ts";
import type { PodRequest } from "./model.ts";

const nginx = "docker.io/library/nginx:1.29";
const tool = "r.io/tool:1";
const here = { [nginx]: "available", [tool]: "available" };
const [nginxLabel, toolLabel] = [imageLabel(nginx), imageLabel(tool)];
const inject = "image.stvz.io/inject";

/** Three nodes: nginx is on all of them, the tool is on the first. */
const world: PodWorld = {
  nodes: [
    aNode("n1", here),
    aNode("n2", { [nginx]: "available" }),
    aNode("n3", { [nginx]: "available" }),
  ],
  plans: [aPlan([nginx, tool])],
};

interface PodParts {
  readonly words?: string;
  readonly image?: string;
  readonly container?: JsonObject;
  readonly more?: readonly JsonObject[];
  readonly spec?: JsonObject;
  readonly annotations?: JsonObject;
  readonly metadata?: JsonObject;
}

function aPod({
  words,
  image = "nginx:1.29",
  container,
  more = [],
  spec,
  annotations,
  metadata,
}: PodParts = {}): JsonObject {
  return {
    metadata: {
      name: "p",
      ...metadata,
      annotations: { ...(words !== undefined && { [inject]: words }), ...annotations },
    },
    spec: {
      containers: [{ name: "web", image, imagePullPolicy: "Always", ...container }, ...more],
      ...spec,
    },
  };
}

function under(...policies: Partial<ImagePolicySpec>[]): PodWorld {
  return {
    ...world,
    policies: policies.map((spec, index) =>
      aPolicy(`p${index}`, { mode: "Force", priority: -index, ...spec }),
    ),
  };
}

function admitted(
  pod: JsonObject,
  where: PodWorld = world,
  request: Partial<PodRequest> = {},
): Admitted {
  return admit(aRequest(pod, request), factsOf(where));
}

/** What is done with the first image: its new pull policy, and how nodes that hold it are wanted. */
function done(pod: JsonObject, where: PodWorld = world, request: Partial<PodRequest> = {}): string {
  const [slot] = admitted(pod, where, request).decision.slots;
  return `${slot?.pullPolicy ?? "-"} ${slot?.nodes ?? "-"}`;
}

function refusals(
  pod: JsonObject,
  world: PodWorld,
  request: Partial<PodRequest> = {},
): readonly string[] {
  return admitted(pod, world, request).decision.refusals;
}

describe("decidePod(): an annotation", () => {
  const cases = {
    "pull-policy": "Never None",
    "pull-policy=IfNotPresent": "IfNotPresent None",
    selectors: "- Required",
    "selectors=preferred": "- Preferred",
    "pull-policy,selectors": "Never Required",
    unknown: "- None",
    "": "- None",
  };
  for (const [words, expected] of Object.entries(cases)) {
    test(`does what ${JSON.stringify(words)} says`, () => {
      assert.equal(done(aPod({ words })), expected);
    });
  }

  test("changes the pod as it says, and marks it", () => {
    const { patch } = admitted(aPod({ words: "pull-policy,selectors" }));

    assert.deepEqual(patch, [
      { op: "add", path: "/spec/containers/0/imagePullPolicy", value: "Never" },
      {
        op: "add",
        path: "/spec/affinity",
        value: {
          nodeAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: {
              nodeSelectorTerms: [
                { matchExpressions: [{ key: nginxLabel, operator: "In", values: ["available"] }] },
              ],
            },
          },
        },
      },
      { op: "add", path: "/metadata/annotations/image.stvz.io~1injected", value: "true" },
    ]);
  });

  test("allows pulls of an image that no node holds, and says so", () => {
    const pending = { ...world, nodes: [aNode("n1", { [nginx]: "pending" })] };
    const { decision } = admitted(aPod({ words: "pull-policy" }), pending);

    assert.equal(decision.slots[0]?.pullPolicy, "IfNotPresent");
    assert.deepEqual(decision.warnings, [
      'container "web": no node that fits the pod holds it yet, so it may be pulled',
    ]);
  });

  test("allows pulls of an image that only nodes hold which the pod does not fit", () => {
    const pod = aPod({ words: "pull-policy", image: tool, spec: { nodeSelector: { zone: "a" } } });

    assert.equal(done(pod), "IfNotPresent None");
  });

  test("leaves the pull policy of an image that no Image asks for, and says so", () => {
    const { decision, patch } = admitted(aPod({ words: "pull-policy", image: "other" }));

    assert.deepEqual(patch, []);
    assert.match(decision.warnings.join(), /no Image asks for it/);
  });

  test("has a pod wait for nodes that do not hold its images yet, and says so", () => {
    const { decision } = admitted(aPod({ words: "selectors", image: "r.io/later:1" }));

    assert.deepEqual(decision.nodes.required, [imageLabel("r.io/later:1")]);
    assert.match(decision.warnings.join(), /the pod waits until one does/);
  });

  test("wants all images of a pod on one node", () => {
    const more = [{ name: "side", image: tool }];
    const { decision } = admitted(aPod({ words: "selectors", more }));

    assert.deepEqual(decision.nodes.required, [nginxLabel, toolLabel]);
    assert.deepEqual(decision.warnings, []);
  });

  test("changes no pull policy while the API server allows only Always", () => {
    const always = { ...world, ownPods: [ownPod("coral", ["Always", "Always"])] };
    const { decision } = admitted(aPod({ words: "pull-policy" }), always);

    assert.equal(decision.slots[0]?.pullPolicy, undefined);
    assert.match(decision.warnings.join(), /AlwaysPullImages/);
  });

  test("is about the containers that it names", () => {
    const annotations = { "image.stvz.io/exclude": "web" };
    const more = [{ name: "side", image: tool }];
    const { decision } = admitted(aPod({ words: "selectors,pull-policy", more, annotations }));

    assert.deepEqual(decision.nodes.required, [toolLabel]);
    assert.deepEqual(
      decision.slots.map(({ pullPolicy }) => pullPolicy),
      [undefined, "Never"],
    );
  });

  test("sets the pull policy of image volumes", () => {
    const volumes = [{ name: "data", image: { reference: tool, pullPolicy: "Always" } }];
    const { patch } = admitted(aPod({ words: "pull-policy", image: "", spec: { volumes } }));

    assert.deepEqual(patch[0], {
      op: "add",
      path: "/spec/volumes/0/image/pullPolicy",
      value: "Never",
    });
  });

  test("knows an image with tag and digest by its digest, as runtimes do", () => {
    const digest = `sha256:${"0".repeat(64)}`;
    const pinned = `docker.io/library/nginx@${digest}`;
    const where = { nodes: [aNode("n1", { [pinned]: "available" })], plans: [aPlan([pinned])] };
    const { decision } = admitted(
      aPod({ words: "selectors", image: `nginx:1.29@${digest}` }),
      where,
    );

    assert.deepEqual(decision.nodes.required, [imageLabel(pinned)]);
    assert.deepEqual(decision.warnings, []);
  });

  test("is obeyed for an image that needs a login, as its author could say so in the pod", () => {
    const secret = { ...world, plans: [aPlan([nginx], { namespace: "other", usesLogins: true })] };

    assert.equal(done(aPod({ words: "pull-policy" }), secret), "Never None");
  });
});

describe("decidePod(): a policy", () => {
  test("decides alone: the first that selects namespace, image and container", () => {
    const cases: [string, Partial<ImagePolicySpec>[]][] = [
      ["IfNotPresent None", [{ pullPolicy: "IfNotPresent" }, { nodes: "Required" }]],
      ["- Required", [{ pullPolicy: "IfNotPresent", priority: -5 }, { nodes: "Required" }]],
      ["- Preferred", [{ nodes: "Required", images: ["r.io/**"] }, { nodes: "Preferred" }]],
      ["- Preferred", [{ nodes: "Required", excludeContainers: ["w*"] }, { nodes: "Preferred" }]],
      ["- None", [{ mode: "Off" }, { nodes: "Preferred" }]],
      ["- None", [{ mode: "OptIn" }, { nodes: "Preferred" }]],
      ["- Preferred", [{ exempt: { users: ["ada"] } }, { nodes: "Preferred" }]],
    ];
    for (const [expected, policies] of cases) {
      assert.equal(done(aPod(), under(...policies)), expected, JSON.stringify(policies));
    }
  });

  test("Off leaves images alone, whatever annotations say", () => {
    assert.equal(done(aPod({ words: "pull-policy,selectors" }), under({ mode: "Off" })), "- None");
  });

  test("OptIn is for pods with the annotation, whose words go first", () => {
    const where = under({ mode: "OptIn", nodes: "Required", pullPolicy: "IfNotPresent" });

    assert.equal(done(aPod(), where), "- None");
    assert.equal(done(aPod({ words: "" }), where), "IfNotPresent Required");
    assert.equal(done(aPod({ words: "selectors=preferred" }), where), "IfNotPresent Preferred");
  });

  test("Force is for all pods, and words of annotations go first", () => {
    const where = under({ nodes: "Preferred", pullPolicy: "IfNotPresent" });
    const annotations = { "image.stvz.io/exclude": "web" };

    assert.equal(done(aPod(), where), "IfNotPresent Preferred");
    assert.equal(done(aPod({ words: "selectors" }), where), "IfNotPresent Required");
    assert.equal(done(aPod({ annotations }), where), "- None");
  });

  test("requires nodes only if enough of those that fit hold all images", () => {
    const side = [{ name: "side", image: tool }];
    const isForOne = { nodeSelector: { "kubernetes.io/os": "linux" } };
    const cases: [string, ImagePolicySpec["minNodes"], PodParts][] = [
      ["Required", 3, {}],
      ["Preferred", 4, {}],
      ["Required", "100%", {}],
      ["Preferred", 2, { more: side }],
      ["Required", 1, { more: side }],
      ["Required", "33%", { more: side }],
      ["Preferred", "34%", { more: side }],
      ["Preferred", 1, { spec: isForOne }],
    ];
    for (const [expected, minNodes, parts] of cases) {
      const where = under({ nodes: "Required", minNodes });
      assert.equal(
        done(aPod(parts), where),
        `- ${expected}`,
        `${minNodes} of ${JSON.stringify(parts)}`,
      );
    }
  });

  test("counts neither nodes that are not ready nor cordoned ones", () => {
    const nodes = [
      aNode("n1", here),
      aNode("n2", here, { isReady: false }),
      aNode("n3", here, { isCordoned: true }),
    ];

    assert.equal(
      done(aPod(), { ...under({ nodes: "Required", minNodes: 2 }), nodes }),
      "- Preferred",
    );
    assert.equal(
      done(aPod(), { ...under({ nodes: "Required", minNodes: 1 }), nodes }),
      "- Required",
    );
  });

  test("takes its share of the nodes that fitted the pod before anything was required", () => {
    const both = Array.from({ length: 3 }, (_, at) => aNode(`b${at}`, here));
    const none = Array.from({ length: 6 }, (_, at) => aNode(`x${at}`));
    const where = {
      ...under(
        { images: ["docker.io/**"], nodes: "Required", minNodes: 2 },
        { nodes: "Required", minNodes: "50%" },
      ),
      nodes: [...both, aNode("n1", { [nginx]: "available" }), ...none],
    };
    const first = admitted(aPod({ more: [{ name: "side", image: tool }] }), where);

    assert.deepEqual(first.decision.nodes, { required: [nginxLabel], preferred: [toolLabel] });
    assert.deepEqual(admitted(first.pod, where).patch, []);
  });

  test("prefers no node for an image that the pod itself requires there", () => {
    const required = { key: toolLabel, operator: "In", values: ["available"] };
    const nodeSelectorTerms = [{ matchExpressions: [required] }];
    const affinity = {
      nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } },
    };
    const pod = aPod({ image: tool, spec: { affinity } });
    const where = under({ nodes: "Required", pullPolicy: "Never" });
    const { decision, patch } = admitted(pod, where);

    assert.deepEqual(decision.nodes, { required: [], preferred: [] });
    assert.deepEqual(patch[0], {
      op: "add",
      path: "/spec/containers/0/imagePullPolicy",
      value: "Never",
    });
  });

  test("says why it only prefers", () => {
    const [slot] = admitted(aPod({ image: tool }), under({ nodes: "Required" })).decision.slots;

    assert.ok(
      slot?.reasons.includes(
        'policy "p0" only prefers nodes that hold it: 1 of the nodes that fit hold all images, and 2 must',
      ),
    );
  });

  test("sets Never only for pods that go to nodes which hold the image", () => {
    assert.equal(done(aPod(), under({ pullPolicy: "Never" })), "IfNotPresent None");
    assert.equal(done(aPod(), under({ pullPolicy: "Never", nodes: "Required" })), "Never Required");
    const few = under({ pullPolicy: "Never", nodes: "Required", minNodes: 4 });
    assert.equal(done(aPod(), few), "IfNotPresent Preferred");
    assert.equal(
      done(aPod({ words: "selectors" }), under({ pullPolicy: "Never" })),
      "Never Required",
    );
  });

  test("leaves Never to a pod that has it of its own", () => {
    const container = { imagePullPolicy: "Never" };

    assert.equal(done(aPod({ container }), under({ pullPolicy: "IfNotPresent" })), "- None");
    assert.equal(done(aPod({ container }), under({ pullPolicy: "Never" })), "- None");
    assert.equal(done(aPod({ container, words: "pull-policy=IfNotPresent" })), "IfNotPresent None");
  });

  test("leaves images alone that no Image asks for", () => {
    const where = under({ pullPolicy: "IfNotPresent", nodes: "Required" });

    assert.equal(done(aPod({ image: "other" }), where), "- None");
  });

  test("leaves the pull policy of an image that another namespace has a login for", () => {
    const where = under({ pullPolicy: "IfNotPresent" });
    const planOf = (namespace: string): PodWorld => ({
      ...where,
      plans: [aPlan([nginx], { namespace, usesLogins: true })],
    });

    assert.equal(done(aPod(), planOf("other")), "- None");
    assert.equal(done(aPod(), planOf("team")), "IfNotPresent None");
  });

  test("says what it would do if it only warns, and what it would if it is for the audit log", () => {
    const settings = {
      pullPolicy: "IfNotPresent",
      nodes: "Required",
      admit: "OnlyAvailable",
    } as const;
    const warned = admitted(aPod(), under({ ...settings, enforcement: "Warn" }));
    const audited = admitted(
      aPod({ image: "absent" }),
      under({ ...settings, enforcement: "Audit" }),
    );

    assert.deepEqual([warned.patch, audited.patch], [[], []]);
    assert.deepEqual(warned.decision.warnings, [
      'policy "p0" would set its pull policy to IfNotPresent and bind the pod to nodes that hold it: container "web"',
    ]);
    assert.deepEqual(audited.decision.refusals, []);
    assert.deepEqual(Object.keys(audited.decision.audit), ["would-refuse"]);
    assert.match(
      audited.decision.audit["would-refuse"] ?? "",
      /^policy "p0" would refuse the pod: container "web"/,
    );
  });

  test("hinders no annotation while it only warns", () => {
    const where = under({ mode: "Off", enforcement: "Warn" });
    const { decision } = admitted(aPod({ words: "pull-policy" }), where);

    assert.equal(decision.slots[0]?.pullPolicy, "Never");
    assert.deepEqual(decision.slots[0]?.origin, { kind: "annotation" });
    assert.deepEqual(decision.warnings, [
      'policy "p0" would leave its pull policy alone: container "web"',
    ]);
  });
});

describe("decidePod(): OnlyAvailable", () => {
  const where = under({ admit: "OnlyAvailable" });
  const pending = {
    ...where,
    nodes: [aNode("n1", { [nginx]: "pending" }), aNode("n2", { [nginx]: "error" })],
  };

  test("lets in what a ready node holds", () => {
    assert.deepEqual(refusals(aPod(), where), []);
  });

  test("refuses what no node holds, and says what is missing and what to do", () => {
    assert.deepEqual(refusals(aPod({ image: "redis" }), where), [
      'container "web": image "docker.io/library/redis:latest" is on no node; ask for it with an Image, and wait until it is there: kubectl get images -A (policy "p0" lets in only what a node holds)',
    ]);
    assert.deepEqual(refusals(aPod(), pending), [
      'container "web": image "docker.io/library/nginx:1.29" is on none yet of the 2 nodes that are to hold it; wait for it: kubectl get images -A (policy "p0" lets in only what a node holds)',
    ]);
  });

  test("refuses what is no image name by Coral's grammar, as nodes hold none of it", () => {
    assert.match(refusals(aPod({ image: "HOST/app" }), where).join(), /is no image name/);
  });

  test("is not undone by an annotation that leaves the container out", () => {
    const annotations = { "image.stvz.io/exclude": "*" };

    assert.equal(refusals(aPod({ annotations }), pending).length, 1);
  });

  test("asks of an update only about images that are new", () => {
    const update = { operation: "UPDATE", oldPod: aPod() } as const;

    assert.deepEqual(refusals(aPod(), pending, update), []);
    assert.equal(refusals(aPod({ image: "redis" }), pending, update).length, 1);
  });

  test("asks about containers that are added for debugging", () => {
    const oldPod = aPod({ image: "redis" });
    const pod = aPod({
      image: "redis",
      spec: { ephemeralContainers: [{ name: "d", image: "busybox" }] },
    });
    const debug = { operation: "UPDATE", subresource: "ephemeralcontainers", oldPod } as const;

    assert.match(refusals(pod, where, debug).join(), /^ephemeral container "d"/);
  });
});

describe("decidePod(): where a pod goes", () => {
  const where = under({ nodes: "Required", pullPolicy: "Never" });

  test("is left to the DaemonSet that has chosen it", () => {
    const ownerReferences = [{ kind: "DaemonSet", controller: true, name: "d", uid: "1" }];

    assert.equal(done(aPod({ metadata: { ownerReferences } }), where), "IfNotPresent None");
    const { decision } = admitted(
      aPod({ words: "selectors", metadata: { ownerReferences } }),
      where,
    );
    assert.match(decision.warnings.join(), /its DaemonSet has chosen the node/);
  });

  test("is left to a pod that names its node", () => {
    assert.equal(done(aPod({ spec: { nodeName: "n1" } }), where), "IfNotPresent None");
  });

  test("is not touched once the pod is there", () => {
    const update = { operation: "UPDATE", oldPod: aPod({ image: tool }) } as const;
    const { patch, decision } = admitted(aPod(), where, update);

    assert.deepEqual([patch, decision.nodes], [[], { required: [], preferred: [] }]);
  });
});

describe("decidePod(): an ephemeral container", () => {
  test("gets a pull policy, and nothing else changes", () => {
    const oldPod = aPod({ words: "pull-policy,selectors" });
    const spec = { ephemeralContainers: [{ name: "debug", image: tool }] };
    const pod = aPod({ words: "pull-policy,selectors", spec });
    const debug = { operation: "UPDATE", subresource: "ephemeralcontainers", oldPod } as const;
    const { patch, decision } = admitted(pod, world, debug);

    assert.deepEqual(patch, [
      { op: "add", path: "/spec/ephemeralContainers/0/imagePullPolicy", value: "Never" },
    ]);
    assert.deepEqual(decision.warnings, []);
  });
});

describe("decidePod(): what is left alone", () => {
  const where = under({ nodes: "Required", pullPolicy: "IfNotPresent", admit: "OnlyAvailable" });
  const pod = aPod({ words: "pull-policy,selectors", image: "absent" });

  test("is the system, Coral itself and mirrors of static pods", () => {
    for (const namespace of ["kube-system", "kube-public", "kube-node-lease", "coral-system"]) {
      const { patch, decision } = admitted(pod, where, { namespace });
      assert.deepEqual([patch, decision.refusals, decision.warnings], [[], [], []], namespace);
      assert.deepEqual(decision.reasons, [`namespace "${namespace}" is left alone`]);
    }
    const annotations = { "kubernetes.io/config.mirror": "x" };
    assert.deepEqual(admitted(aPod({ words: "selectors", annotations }), where).patch, []);
  });

  test("is every pod while Coral starts, with a warning", () => {
    const { patch, decision } = admitted(pod, { ...where, hasSynced: false });

    assert.deepEqual([patch, decision.refusals], [[], []]);
    assert.match(decision.warnings.join(), /Coral is starting/);
  });

  test("is what subresources ask for", () => {
    for (const subresource of ["status", "binding", "resize"]) {
      const { patch, decision } = admitted(pod, where, { operation: "UPDATE", subresource });
      assert.deepEqual([patch, decision.refusals], [[], []]);
    }
  });

  test("is what policies say of a namespace whose labels are not known", () => {
    const { decision } = admitted(aPod(), where, { namespace: "new" });

    assert.deepEqual([decision.slots[0]?.origin, decision.refusals], [undefined, []]);
    assert.match(decision.warnings.join(), /namespace "new" is not known to Coral yet/);
  });

  test("is a pod of more images than a pod has, but for refusals", () => {
    const more = Array.from({ length: 1_000 }, (_, at) => ({
      name: `c${at}`,
      image: "nginx:1.29",
    }));
    const { patch, decision } = admitted(aPod({ more }), where);

    assert.deepEqual(patch, []);
    assert.match(decision.warnings.join(), /names 1001 images/);
    assert.match(decision.refusals.join(), /policy "p0" lets in no pod of more than 1000 images/);
  });
});

describe("decidePod(): what is decided", () => {
  test("does not depend on what Coral wrote before", () => {
    const annotations = { "image.stvz.io/injected": "true" };
    const { patch } = admitted(aPod({ words: "pull-policy", annotations }));

    assert.deepEqual(patch, [
      { op: "add", path: "/spec/containers/0/imagePullPolicy", value: "Never" },
    ]);
  });

  test("says who decided, and why", () => {
    const { decision } = admitted(aPod(), under({ nodes: "Preferred" }));

    assert.deepEqual(decision.slots[0]?.origin, { kind: "policy", name: "p0" });
    assert.deepEqual(decision.slots[0]?.reasons, [
      'policy "p0" decides about it',
      'policy "p0" prefers nodes that hold it',
    ]);
  });

  test("takes time as the pod has containers, whatever they are", () => {
    const facts = factsOf(
      under({ nodes: "Required", pullPolicy: "Never", admit: "OnlyAvailable" }),
    );
    const images = [nginx, tool, "absent", "BAD//", "x".repeat(5_000)];
    assertLinear((size) => {
      const containers = Array.from({ length: size }, (_, at) => ({
        name: `c${at}`,
        image: at % 7 === 0 ? `r.io/i${at}:1` : images[at % images.length],
      }));
      admit(aRequest(aPod({ words: "selectors,pull-policy", spec: { containers } })), facts);
    }, 1_000);
  });
});
