import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { blobsOf, parseNamedBlobs } from "./blobs.ts";

const digest = (letter: string): string => `sha256:${letter.repeat(64)}`;
const index = digest("1");
const amd = digest("2");
const arm = digest("3");
const config = digest("4");
const layer = digest("5");

/** Reads from what a runtime has. */
function reading(blobs: Record<string, unknown>): (digest: string) => Promise<Buffer | undefined> {
  return async (digest) =>
    digest in blobs ? Buffer.from(JSON.stringify(blobs[digest])) : undefined;
}

const image = { config: { digest: config }, layers: [{ digest: layer }] };

describe("blobsOf()", () => {
  test("names a manifest, its configuration and its layers", async () => {
    const blobs = await blobsOf(amd, reading({ [amd]: image }));

    assert.deepEqual([...(blobs ?? [])], [amd, config, layer]);
  });

  test("names of an index the platforms that are there", async () => {
    const manifests = [{ digest: amd }, { digest: arm }];
    const blobs = await blobsOf(index, reading({ [index]: { manifests }, [arm]: image }));

    assert.deepEqual([...(blobs ?? [])].sort(), [index, arm, config, layer].sort());
  });

  test("knows nothing while the manifest is not there", async () => {
    assert.equal(await blobsOf(amd, reading({})), undefined);
    const manifests = [{ digest: amd }];
    assert.equal(await blobsOf(index, reading({ [index]: { manifests } })), undefined);
  });
});

test("parseNamedBlobs() takes whatever it is given", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      parseNamedBlobs(Buffer.from(text));
    }),
  );
  const odd = { config: 7, layers: [null, { digest: 1 }, { digest: "x" }], manifests: {} };
  assert.deepEqual(parseNamedBlobs(Buffer.from(JSON.stringify(odd))), { blobs: [], manifests: [] });
});
