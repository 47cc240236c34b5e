import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import type { ManifestContent } from "./content.ts";
import {
  fallbackTag,
  isForeign,
  isManifestType,
  ManifestError,
  mediaTypeOfContent,
  mediaTypes,
  parseContent,
} from "./manifest.ts";

const digest = `sha256:${"a".repeat(64)}`;
const config = { mediaType: "application/vnd.oci.image.config.v1+json", digest, size: 2 };
const child = { mediaType: mediaTypes.ociImage, digest, size: 3 };
const layer = { mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest, size: 5 };

function aManifest(value: unknown, mediaType: string = mediaTypes.ociImage): ManifestContent {
  return { mediaType, digest, bytes: Buffer.from(JSON.stringify(value)) };
}

describe("parseContent()", () => {
  test("reads an image with its subject and what it is for", () => {
    const subject = { mediaType: mediaTypes.ociImage, digest, size: 7 };
    const value = { config, layers: [layer], subject, annotations: { a: "b", c: 1 } };

    assert.deepEqual(parseContent(aManifest(value)), {
      kind: "image",
      config: { mediaType: config.mediaType, digest, sizeBytes: 2 },
      layers: [{ mediaType: layer.mediaType, digest, sizeBytes: 5 }],
      subject: { mediaType: mediaTypes.ociImage, digest, sizeBytes: 7 },
      artifactType: config.mediaType,
      annotations: { a: "b" },
    });
  });

  test("reads Docker's schema 2 alike", () => {
    const image = parseContent(aManifest({ config, layers: [layer] }, mediaTypes.dockerImage));
    const index = parseContent(aManifest({ manifests: [] }, mediaTypes.dockerIndex));

    assert.deepEqual([image.kind, index.kind], ["image", "index"]);
  });

  test("reads an index with its platforms", () => {
    const platform = { os: "linux", architecture: "arm64", variant: "v8" };
    const value = { manifests: [{ ...child, platform }, child] };
    const content = parseContent(aManifest(value, mediaTypes.ociIndex));

    assert.deepEqual(content.kind === "index" && content.children, [
      { mediaType: mediaTypes.ociImage, digest, sizeBytes: 3, platform: "linux/arm64/v8" },
      { mediaType: mediaTypes.ociImage, digest, sizeBytes: 3 },
    ]);
  });

  test("reads the artifacts of OCI's drafts, which have no configuration", () => {
    const value = { mediaType: mediaTypes.ociArtifact, artifactType: "text/spdx", blobs: [layer] };
    const content = parseContent(aManifest(value, mediaTypes.ociArtifact));

    assert.deepEqual(
      [content.kind, content.artifactType, content.kind === "image" && content.layers.length],
      ["image", "text/spdx", 1],
    );
  });

  test("takes Go's null for a list without entries", () => {
    const image = parseContent(aManifest({ config, layers: null }));
    const index = parseContent(aManifest({ manifests: null }, mediaTypes.ociIndex));

    assert.deepEqual(image.kind === "image" && image.layers, []);
    assert.deepEqual(index.kind === "index" && index.children, []);
  });

  const schema1Type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
  const refused: Record<string, [value: unknown, mediaType: string, reason: RegExp]> = {
    "Docker's schema 1 by its version": [{ schemaVersion: 1 }, mediaTypes.ociImage, /schema 1/],
    "Docker's schema 1 by its type": [{ layers: [] }, schema1Type, /schema 1 \(schemaVersion 1\)/],
    "what is both image and index": [
      { manifests: [], layers: [], config },
      mediaTypes.ociIndex,
      /both an image and an index/,
    ],
    "an index under an image's type": [{ manifests: [] }, mediaTypes.ociImage, /says it is an im/],
    "an image under an index's type": [{ config, layers: [] }, mediaTypes.ociIndex, /says it is/],
    "more layers than any image has": [
      { config, layers: Array.from({ length: 1_025 }, () => layer) },
      mediaTypes.ociImage,
      /more than 1024/,
    ],
    "more manifests than any index has": [
      { manifests: Array.from({ length: 4_097 }, () => layer) },
      mediaTypes.ociIndex,
      /more than 4096/,
    ],
    "an index of more bytes than there is room for": [
      { manifests: Array.from({ length: 17 }, () => ({ ...child, size: 4 << 20 })) },
      mediaTypes.ociIndex,
      /manifests of more than 67108864 bytes/,
    ],
    "a digest that leads elsewhere": [
      { config: { ...config, digest: "sha256:../../etc/passwd" }, layers: [] },
      mediaTypes.ociImage,
      /configuration/,
    ],
    "a size below zero": [
      { config, layers: [{ ...layer, size: -1 }] },
      mediaTypes.ociImage,
      /size/,
    ],
    "a size past all counting": [
      { config, layers: [{ ...layer, size: 2 ** 60 }] },
      mediaTypes.ociImage,
      /size/,
    ],
    "a subject that is none": [
      { config, layers: [], subject: "x" },
      mediaTypes.ociImage,
      /subject/,
    ],
    "a list that is none": [{ config, layers: {} }, mediaTypes.ociImage, /list of content/],
    "a text": ["manifest", mediaTypes.ociImage, /JSON object/],
  };
  for (const [fact, [value, mediaType, reason]] of Object.entries(refused)) {
    test(`refuses ${fact}`, () => {
      assert.throws(
        () => parseContent(aManifest(value, mediaType)),
        (error) => error instanceof ManifestError && reason.test(error.reason),
      );
    });
  }

  test("throws nothing but ManifestError, whatever a registry sends", () => {
    const place = fc.constantFrom("manifests", "layers", "config", "mediaType", "subject", "blobs");
    fc.assert(
      fc.property(fc.dictionary(place, fc.jsonValue({ maxDepth: 4 })), (value) => {
        try {
          parseContent(aManifest(value));
        } catch (error) {
          assert.ok(error instanceof ManifestError);
        }
      }),
    );
  });
});

describe("isForeign()", () => {
  test("knows foreign layers by their type alone", () => {
    const types = {
      "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": true,
      "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": true,
      "application/vnd.oci.image.layer.v1.tar+gzip": false,
    };
    for (const [mediaType, expected] of Object.entries(types)) {
      assert.equal(isForeign({ mediaType, digest, sizeBytes: 1 }), expected);
    }
    const urls = ["https://go.microsoft.com/x"];
    assert.equal(isForeign({ mediaType: layer.mediaType, digest, sizeBytes: 1, urls }), false);
  });
});

describe("isManifestType()", () => {
  test("takes schema 1 for a manifest, so that it is refused and not copied as a blob", () => {
    const type = "application/vnd.docker.distribution.manifest.v1+json";

    assert.equal(isManifestType(type), true);
    assert.equal(isManifestType("application/octet-stream"), false);
  });
});

function typeOf(value: unknown): string | undefined {
  return mediaTypeOfContent(Buffer.from(JSON.stringify(value)));
}

describe("mediaTypeOfContent()", () => {
  test("tells manifests from other JSON", () => {
    assert.equal(typeOf({ mediaType: mediaTypes.dockerImage }), mediaTypes.dockerImage);
    assert.equal(typeOf({ manifests: [] }), mediaTypes.ociIndex);
    assert.equal(typeOf({ config, layers: [] }), mediaTypes.ociImage);
    assert.equal(typeOf({ mediaType: "application/json", layers: [] }), undefined);
    assert.equal(typeOf({ config: {} }), undefined);
    assert.equal(typeOf([]), undefined);
  });
});

describe("fallbackTag()", () => {
  test("has at most 64 characters of the digest, as the specification says", () => {
    assert.equal(fallbackTag(digest), `sha256-${"a".repeat(64)}`);
    assert.equal(fallbackTag(`sha512:${"b".repeat(128)}`), `sha512-${"b".repeat(64)}`);
  });
});
