import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { isJsonObject, type JsonObject } from "#json/json.ts";
import { jsonPatch } from "#test/fake-api-server-patch.ts";
import { affinityOperations, canRequire } from "./affinity-patch.ts";
import { requiredLabelsOf } from "./node-affinity.ts";

const a = `image.stvz.io/${"a".repeat(32)}`;
const b = `image.stvz.io/${"b".repeat(32)}`;
const required = "requiredDuringSchedulingIgnoredDuringExecution";
const preferred = "preferredDuringSchedulingIgnoredDuringExecution";
const zone = { key: "zone", operator: "Exists" };

function held(key: string): JsonObject {
  return { key, operator: "In", values: ["available"] };
}

function term(...matchExpressions: JsonObject[]): JsonObject {
  return { matchExpressions };
}

function weighted(...matchExpressions: JsonObject[]): JsonObject {
  return { weight: 100, preference: { matchExpressions } };
}

/** The affinity that a pod has afterwards, and after it has been asked about again. */
function patched(affinity: unknown, nodes: { required?: string[]; preferred?: string[] }): unknown {
  const wanted = { required: [], preferred: [], ...nodes };
  const pod = { spec: { affinity } };
  const result = jsonPatch(pod, affinityOperations(pod, wanted));
  assert.ok(isJsonObject(result) && isJsonObject(result["spec"]));
  assert.deepEqual(affinityOperations(result, wanted), [], "a second time");
  return result["spec"]["affinity"];
}

describe("affinityOperations()", () => {
  test("makes an affinity for a pod that has none", () => {
    for (const none of [undefined, null]) {
      assert.deepEqual(patched(none, { required: [a], preferred: [b] }), {
        nodeAffinity: {
          [required]: { nodeSelectorTerms: [term(held(a))] },
          [preferred]: [weighted(held(b))],
        },
      });
    }
    assert.equal(patched(undefined, {}), undefined);
  });

  test("leaves what a pod wants of other pods", () => {
    const podAffinity = { x: 1 };

    assert.deepEqual(patched({ podAffinity }, { required: [a] }), {
      podAffinity,
      nodeAffinity: { [required]: { nodeSelectorTerms: [term(held(a))] } },
    });
  });

  test("adds to each term that the pod has, for a node has to fulfil only one", () => {
    const matchFields = [{ key: "metadata.name", operator: "In", values: ["n1"] }];
    const nodeSelectorTerms = [term(zone), { matchFields }, term(held(a), zone)];

    assert.deepEqual(
      patched({ nodeAffinity: { [required]: { nodeSelectorTerms } } }, { required: [a, b] }),
      {
        nodeAffinity: {
          [required]: {
            nodeSelectorTerms: [
              term(zone, held(a), held(b)),
              { matchFields, matchExpressions: [held(a), held(b)] },
              term(held(a), zone, held(b)),
            ],
          },
        },
      },
    );
  });

  test("lets a term that no node fulfils stay so", () => {
    for (const nodeSelectorTerms of [[{}], [{ matchExpressions: [] }], [], undefined]) {
      const affinity = { nodeAffinity: { [required]: { nodeSelectorTerms } } };
      assert.deepEqual(patched(affinity, { required: [a] }), affinity);
    }
  });

  test("adds one preference, which a label that comes later joins", () => {
    const own = { weight: 100, preference: term(zone) };
    const once = patched({ nodeAffinity: { [preferred]: [own] } }, { preferred: [a] });

    assert.deepEqual(once, { nodeAffinity: { [preferred]: [own, weighted(held(a))] } });
    assert.deepEqual(patched(once, { preferred: [a, b] }), {
      nodeAffinity: { [preferred]: [own, weighted(held(a), held(b))] },
    });
  });

  test("adds a preference to one that asks for more than the image", () => {
    const both = weighted(held(a), zone);

    assert.deepEqual(patched({ nodeAffinity: { [preferred]: [both] } }, { preferred: [a] }), {
      nodeAffinity: { [preferred]: [both, weighted(held(a))] },
    });
  });

  test("leaves what is malformed to the API server", () => {
    for (const affinity of [
      "x",
      [],
      { nodeAffinity: 5 },
      { nodeAffinity: { [required]: "x", [preferred]: 5 } },
    ]) {
      assert.deepEqual(patched(affinity, { required: [a], preferred: [b] }), affinity);
    }
  });
});

describe("canRequire()", () => {
  test("declines what would make a patch of thousands of operations", () => {
    const nodeSelectorTerms = Array.from({ length: 200 }, () => term(zone));
    const spec = { affinity: { nodeAffinity: { [required]: { nodeSelectorTerms } } } };

    assert.equal(canRequire({ spec }, 5), true);
    assert.equal(canRequire({ spec }, 6), false);
    assert.equal(canRequire({ spec: {} }, 1_000), true);
    assert.equal(canRequire({ spec: { affinity: "x" } }, 1), false);
  });
});

describe("requiredLabelsOf()", () => {
  test("names labels that every term requires", () => {
    assert.deepEqual(labelsOf(term(held(a), held(b)), term(held(b), zone)), [b]);
    assert.deepEqual(labelsOf(term(held(a)), {}), [a], "no node fulfils the other");
    assert.deepEqual(labelsOf(term(zone)), []);
    assert.deepEqual(labelsOf(), []);
  });
});

function labelsOf(...nodeSelectorTerms: JsonObject[]): string[] {
  const spec = { affinity: { nodeAffinity: { [required]: { nodeSelectorTerms } } } };
  return [...requiredLabelsOf({ spec })];
}
