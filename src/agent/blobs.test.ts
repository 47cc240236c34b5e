import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { BlobSearch, parseNamedBlobs } from "./blobs.ts";

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

const described = (digest: string): { digest: string } => ({ digest });
const image = { config: { digest: config }, layers: [{ digest: layer }] };

describe("BlobSearch", () => {
  test("names a manifest, its configuration and its layers", async () => {
    const blobs = await new BlobSearch(amd).look(reading({ [amd]: image }));

    assert.deepEqual([...(blobs ?? [])], [amd, config, layer]);
  });

  test("names of an index the platforms that are there", async () => {
    const manifests = [{ digest: amd }, { digest: arm }];
    const blobs = await new BlobSearch(index).look(
      reading({ [index]: { manifests }, [arm]: image }),
    );

    assert.deepEqual([...(blobs ?? [])].sort(), [index, arm, config, layer].sort());
  });

  test("knows nothing while the manifest is not there", async () => {
    assert.equal(await new BlobSearch(amd).look(reading({})), undefined);
    const manifests = [{ digest: amd }];
    assert.equal(await new BlobSearch(index).look(reading({ [index]: { manifests } })), undefined);
  });

  test("reads once what is there and is no manifest, and again what is not there yet", async () => {
    const blobs: Record<string, unknown> = { [index]: { manifests: [amd, arm].map(described) } };
    blobs[amd] = { config: {}, rootfs: {} }; // An image's configuration names no blobs.
    const reads: string[] = [];
    const read = (digest: string): Promise<Buffer | undefined> => {
      reads.push(digest);
      return reading(blobs)(digest);
    };
    const search = new BlobSearch(index);
    await search.look(read);
    await search.look(read);
    assert.deepEqual(reads, [index, amd, arm, index, arm]);
    blobs[arm] = image;

    assert.deepEqual([...((await search.look(read)) ?? [])], [arm, config, layer, index]);
    assert.equal(search.isVain, false);
  });

  test("is in vain for what is no manifest", async () => {
    const search = new BlobSearch(layer);
    await search.look(reading({}));
    assert.equal(search.isVain, false, "it is not there yet");
    await search.look(reading({ [layer]: "bytes" }));

    assert.equal(search.isVain, true);
  });
});

test("parseNamedBlobs() takes whatever it is given", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      parseNamedBlobs(Buffer.from(text));
    }),
  );
  const odd = { config: 7, layers: [null, { digest: 1 }, { digest: "x" }], manifests: {} };
  assert.equal(parseNamedBlobs(Buffer.from(JSON.stringify(odd))), undefined, "it names no blobs");
});
