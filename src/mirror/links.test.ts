import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { Descriptor, ManifestContent } from "#oci/content.ts";
import { formatDescriptor, mediaTypes } from "#oci/manifest.ts";
import { configType } from "#test/images.ts";
import { linksOf } from "./links.ts";

const digestOf = (letter: string): string => `sha256:${letter.repeat(64)}`;
const layerType = "application/vnd.oci.image.layer.v1.tar";
const foreignType = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

const a = (mediaType: string, letter: string): Descriptor => ({
  mediaType,
  digest: digestOf(letter),
  sizeBytes: 1,
});

function contentOf(value: object, mediaType: string = mediaTypes.ociImage): ManifestContent {
  return { mediaType, digest: digestOf("0"), bytes: Buffer.from(JSON.stringify(value)) };
}

const digestsIn = (list: readonly Descriptor[]): string[] => list.map(({ digest }) => digest);

describe("linksOf()", () => {
  test("takes what an image names for blobs, even where it says that they are manifests", () => {
    const config = a(configType, "a");
    const layers = [a(mediaTypes.ociImage, "b"), a(layerType, "c"), a(layerType, "c")];
    const value = {
      config: formatDescriptor(config),
      layers: layers.map((layer) => formatDescriptor(layer)),
    };
    const { blobs, manifests } = linksOf(contentOf(value));

    assert.deepEqual(digestsIn(blobs), ["a", "b", "c"].map(digestOf));
    assert.deepEqual(manifests, []);
  });

  test("leaves out foreign layers, but no configuration, nor what only may be had elsewhere, too", () => {
    const urls = ["https://example.test/layer"];
    const value = {
      config: { ...formatDescriptor(a(foreignType, "a")), urls },
      layers: [
        { ...formatDescriptor(a(layerType, "b")), urls },
        formatDescriptor(a(foreignType, "c")),
      ],
    };

    assert.deepEqual(digestsIn(linksOf(contentOf(value)).blobs), ["a", "b"].map(digestOf));
  });

  test("tells a manifest from a blob that has the same digest", () => {
    const children = [a(mediaTypes.ociImage, "a"), a("application/octet-stream", "a")];
    const value = { manifests: children.map((child) => formatDescriptor(child)) };
    const { blobs, manifests } = linksOf(contentOf(value, mediaTypes.ociIndex));

    assert.deepEqual([digestsIn(blobs), manifests], [[digestOf("a")], [digestOf("a")]]);
  });
});
