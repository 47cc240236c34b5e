import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { agentPodOf, Liveness } from "./liveness.ts";

describe("Liveness", () => {
  const ready = { node: "n1", isReady: true };
  const down = { node: "n1", isReady: false };

  test("a node without a Ready agent has never been alive", () => {
    const liveness = new Liveness({ graceMs: 20_000 });
    liveness.setPod("ns/p", down);

    assert.deepEqual(liveness.look("n1", 0), { isAlive: false });
  });

  test("a node whose agent falls silent stays alive for the grace period", () => {
    const liveness = new Liveness({ graceMs: 20_000 });
    liveness.setPod("ns/p", ready);
    assert.deepEqual(liveness.look("n1", 0), { isAlive: true });
    liveness.setPod("ns/p", down);

    assert.deepEqual(liveness.look("n1", 1_000), { isAlive: true, changesInMs: 20_000 });
    assert.deepEqual(liveness.look("n1", 11_000), { isAlive: true, changesInMs: 10_000 });
    assert.deepEqual(liveness.look("n1", 21_000), { isAlive: false });
  });

  test("an update of the agent, one pod after the other, changes nothing", () => {
    const liveness = new Liveness({ graceMs: 20_000 });
    liveness.setPod("ns/old", ready);
    liveness.look("n1", 0);
    assert.equal(liveness.setPod("ns/old", undefined), "n1");
    assert.equal(liveness.look("n1", 1_000).isAlive, true);
    liveness.setPod("ns/new", ready);

    assert.deepEqual(liveness.look("n1", 60_000), { isAlive: true });
  });

  test("gives no grace to a node that Kubernetes has lost, and takes it back", () => {
    const liveness = new Liveness({ graceMs: 20_000 });
    liveness.setPod("ns/p", ready);
    liveness.look("n1", 0);
    liveness.setLost("n1", true);
    assert.deepEqual(liveness.look("n1", 1_000), { isAlive: false });
    liveness.setLost("n1", false);

    assert.deepEqual(liveness.look("n1", 2_000), { isAlive: true });
  });
});

describe("agentPodOf()", () => {
  const metadata = { name: "p", labels: { "app.kubernetes.io/component": "agent" } };

  test("is nothing for a pod of the controller", () => {
    const labels = { "app.kubernetes.io/component": "controller" };
    const pod = { metadata: { name: "p", labels }, spec: { nodeName: "n1" } };

    assert.equal(agentPodOf(pod), undefined);
  });

  test("is nothing before the pod has a node", () => {
    assert.equal(agentPodOf({ metadata }), undefined);
  });

  test("is Ready by the pod's condition alone", () => {
    const conditions = [{ type: "Ready", status: "True" }];
    const pod = { metadata, spec: { nodeName: "n1" }, status: { conditions } };

    assert.deepEqual(agentPodOf(pod), { node: "n1", isReady: true });
    assert.deepEqual(agentPodOf({ ...pod, status: { phase: "Running" } }), {
      node: "n1",
      isReady: false,
    });
  });
});
