import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { Change } from "#kube/object-cache.ts";
import type { Pod } from "#kube/types.ts";
import { ownPod } from "#test/pod-facts.ts";
import { AlwaysPulls } from "./always-pulls.ts";

/** Coral's pods, of which a test tells. */
class Scene {
  tell: (change: Change<Pod>) => void = () => {};
  changes = 0;
  readonly alwaysPulls = new AlwaysPulls(this, () => this.changes++);

  onChange(listener: (change: Change<Pod>) => void): Disposable {
    this.tell = listener;
    return { [Symbol.dispose]() {} };
  }

  add(name: string, ...policies: (string | undefined)[]): void {
    this.tell({ type: "added", key: name, object: ownPod(name, policies) });
  }

  remove(name: string, ...policies: string[]): void {
    const object = ownPod(name, policies);
    this.tell({ type: "deleted", key: name, object, previous: object });
  }
}

describe("AlwaysPulls", () => {
  test("is off while nothing is known", () => {
    const scene = new Scene();
    assert.equal(scene.alwaysPulls.isOn, false);
    scene.add("a");
    scene.add("b", undefined);
    assert.equal(scene.alwaysPulls.isOn, false);
  });

  test("is on if every container of every pod is always pulled", () => {
    const scene = new Scene();
    scene.add("a", "Always", "Always");
    assert.equal(scene.alwaysPulls.isOn, true);
    scene.add("b", "Always", "IfNotPresent");
    assert.equal(scene.alwaysPulls.isOn, false);
    scene.remove("b", "Always", "IfNotPresent");
    assert.equal(scene.alwaysPulls.isOn, true);
    scene.remove("a", "Always", "Always");
    assert.equal(scene.alwaysPulls.isOn, false);
  });

  test("tells when that changes, and only then", () => {
    const scene = new Scene();
    scene.add("a", "Always");
    scene.add("b", "Always");
    assert.equal(scene.changes, 1);
    scene.add("c", "IfNotPresent");
    scene.add("d", "IfNotPresent");
    assert.equal(scene.changes, 2);
  });
});
