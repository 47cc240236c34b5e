import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { formatKey, parseKey } from "./key.ts";
import {
  collectionPath,
  configMaps,
  events,
  leases,
  nodes,
  objectPath,
  pods,
  secrets,
  validatingWebhookConfigurations,
} from "./resource.ts";

const metadata = { name: "a" };

describe("parse()", () => {
  const malformed: Record<string, [parse: (value: unknown) => unknown, value: unknown]> = {
    object: [nodes.parse, null],
    metadata: [nodes.parse, {}],
    "metadata.name": [nodes.parse, { metadata: {} }],
    'metadata.labels["a"]': [nodes.parse, { metadata: { name: "a", labels: { a: 1 } } }],
    "metadata.ownerReferences[0].uid": [
      nodes.parse,
      { metadata: { name: "a", ownerReferences: [{ apiVersion: "v1", kind: "Node", name: "a" }] } },
    ],
    "spec.taints[1].key": [
      nodes.parse,
      { metadata, spec: { taints: [{ key: "a", effect: "NoSchedule" }, {}] } },
    ],
    "spec.containers": [pods.parse, { metadata, spec: { containers: {} } }],
    "spec.leaseDurationSeconds": [leases.parse, { metadata, spec: { leaseDurationSeconds: "15" } }],
    regarding: [events.parse, { metadata }],
    'data["a"]': [secrets.parse, { metadata, data: { a: 1 } }],
    data: [configMaps.parse, { metadata, data: [] }],
    "webhooks[0].clientConfig": [
      validatingWebhookConfigurations.parse,
      { metadata, webhooks: [{ name: "a" }] },
    ],
    "webhooks[1].name": [
      validatingWebhookConfigurations.parse,
      { metadata, webhooks: [{ name: "a", clientConfig: {} }, { clientConfig: {} }] },
    ],
  };
  for (const [field, [parse, value]] of Object.entries(malformed)) {
    test(`names ${field} when it is not as it must be`, () => {
      assert.throws(() => parse(value), { code: "MALFORMED_OBJECT", field });
    });
  }

  test("returns the object itself, with what it does not know", () => {
    const node = { metadata, spec: { podCIDR: "10.0.0.0/24", taints: null } };
    assert.equal(nodes.parse(node), node);
  });
});

describe("paths", () => {
  test("lead to the core group, to other groups, and into namespaces", () => {
    assert.equal(collectionPath(nodes), "/api/v1/nodes");
    assert.equal(collectionPath(nodes, "ignored"), "/api/v1/nodes");
    assert.equal(collectionPath(leases), "/apis/coordination.k8s.io/v1/leases");
    const path = "/apis/coordination.k8s.io/v1/namespaces/a/leases/b";
    assert.equal(objectPath(leases, { namespace: "a", name: "b" }), path);
  });

  test("cannot be left by a name", () => {
    assert.equal(objectPath(nodes, { name: "../pods?x" }), "/api/v1/nodes/..%2Fpods%3Fx");
  });
});

describe("parseKey()", () => {
  test("reads what formatKey() wrote", () => {
    const part = fc.string({ minLength: 1 }).filter((text) => !text.includes("/"));
    const key = fc.record(
      { name: part, namespace: part },
      { requiredKeys: ["name"], noNullPrototype: true },
    );
    fc.assert(fc.property(key, (key) => assert.deepEqual(parseKey(formatKey(key)), key)));
  });
});
