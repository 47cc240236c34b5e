import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { ManifestContent } from "#oci/content.ts";
import { mediaTypes } from "#oci/manifest.ts";
import { compareSignatures } from "./attached-tags.ts";

const payload = { mediaType: "test/payload", digest: `sha256:${"a".repeat(64)}`, size: 1 };

/** Signatures of one payload, as several keys make them. */
function signedBy(...keys: string[]): ManifestContent {
  const layers = keys.map((key) => ({ ...payload, annotations: { signature: key, by: "test" } }));
  const bytes = Buffer.from(JSON.stringify({ layers }));
  return { mediaType: mediaTypes.ociImage, digest: payload.digest, bytes };
}

describe("compareSignatures()", () => {
  const cases: [source: string[], target: string[], expected: string][] = [
    [["a"], ["b", "a"], "keep"],
    [["a", "b"], ["a"], "replace"],
    [["a", "b"], ["a", "c"], "conflict"],
    [["a"], ["b"], "conflict"],
    [["a"], [], "replace"],
  ];
  for (const [source, target, expected] of cases) {
    test(`says ${expected} where the source has ${source.join()} and the target ${target.join()}`, () => {
      assert.equal(compareSignatures(signedBy(...source), signedBy(...target)), expected);
    });
  }

  test("does not mind in which order annotations are written", () => {
    const layers = [{ ...payload, annotations: { by: "test", signature: "a" } }];
    const bytes = Buffer.from(JSON.stringify({ layers, annotations: {} }));

    assert.equal(compareSignatures({ ...signedBy(), bytes }, signedBy("a")), "keep");
  });
});
