import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { Change } from "#kube/object-cache.ts";
import type { Pod } from "#kube/types.ts";
import { ReplicaAddresses } from "./pods.ts";
import { slimPod } from "./transforms.ts";

function aPod({ component = "controller", ready = "True" } = {}): Pod {
  const labels = { "app.kubernetes.io/name": "coral", "app.kubernetes.io/component": component };
  const conditions = [{ type: "Ready", status: ready }];
  return slimPod({ metadata: { name: "p", labels }, status: { conditions, podIP: "10.1.2.3" } });
}

/** Pods of which a test tells. */
class Feed {
  tell: (change: Change<Pod>) => void = () => {};

  onChange(listener: (change: Change<Pod>) => void): Disposable {
    this.tell = listener;
    return { [Symbol.dispose]() {} };
  }
}

describe("ReplicaAddresses", () => {
  const key = "coral-system/p";
  const address = "10.1.2.3";

  test("has the address of a replica while its pod is Ready", () => {
    const pods = new Feed();
    using replicas = new ReplicaAddresses(pods);
    pods.tell({ type: "added", key, object: aPod() });
    assert.equal(replicas.has(address), true);
    assert.equal(replicas.has("10.1.2.4"), false);
    pods.tell({ type: "updated", key, previous: aPod(), object: aPod({ ready: "False" }) });
    assert.equal(replicas.has(address), false, "another pod may have it");
  });

  test("forgets the address of a pod that is gone", () => {
    const pods = new Feed();
    using replicas = new ReplicaAddresses(pods);
    pods.tell({ type: "added", key, object: aPod() });
    pods.tell({ type: "deleted", key, object: aPod(), previous: aPod() });
    assert.equal(replicas.has(address), false);
  });

  test("has no address of an agent", () => {
    const pods = new Feed();
    using replicas = new ReplicaAddresses(pods);
    pods.tell({ type: "added", key, object: aPod({ component: "agent" }) });
    assert.equal(replicas.has(address), false);
  });
});
