import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";

import { parseManifest, platformOfConfig } from "./manifest.ts";

const dockerList = "application/vnd.docker.distribution.manifest.list.v2+json";
const ociManifest = "application/vnd.oci.image.manifest.v1+json";
const digest = `sha256:${"a".repeat(64)}`;

const bufferOf = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

describe("parseManifest()", () => {
  const types: Record<string, [stated: unknown, header: string | undefined, type: string]> = {
    "takes the type that the manifest states": [dockerList, "text/plain", dockerList],
    "takes the header's type where it states none": [undefined, `${dockerList};a`, dockerList],
    "takes OCI's type where nothing is known": [
      undefined,
      undefined,
      "application/vnd.oci.image.index.v1+json",
    ],
    "does not take an image's type for an index": [
      ociManifest,
      undefined,
      "application/vnd.oci.image.index.v1+json",
    ],
  };
  for (const [fact, [mediaType, header, wanted]] of Object.entries(types)) {
    test(fact, () => {
      const manifest = parseManifest(bufferOf({ mediaType, manifests: [] }), header);

      assert.deepEqual(manifest, { kind: "index", mediaType: wanted, children: [] });
    });
  }

  test("leaves out platforms that no node has", () => {
    const child = { mediaType: ociManifest, digest, size: 1 };
    const platforms = [
      { os: "linux" },
      { os: "linux", architecture: "a/b" },
      { os: "linux", architecture: "x".repeat(21) },
      "linux/amd64",
      { os: "Linux", architecture: "amd64" },
    ];
    const manifests = platforms.map((platform) => ({ ...child, platform }));

    const manifest = parseManifest(bufferOf({ manifests }), undefined);

    assert.deepEqual(
      typeof manifest === "object" && "children" in manifest && manifest.children,
      [],
    );
  });

  test("throws for nothing that a registry may send", () => {
    const place = fc.constantFrom("manifests", "layers", "config", "mediaType");
    const wild = fc.dictionary(place, fc.jsonValue({ maxDepth: 4 }));
    fc.assert(
      fc.property(
        fc.oneof(
          wild.map(bufferOf),
          fc.uint8Array().map((bytes) => Buffer.from(bytes)),
        ),
        (body) => {
          parseManifest(body, undefined);
          platformOfConfig(body);
        },
      ),
    );
  });
});

describe("platformOfConfig()", () => {
  test("names system, architecture and variant", () => {
    const config = { os: "linux", architecture: "arm", variant: "v7" };

    assert.equal(platformOfConfig(bufferOf(config)), "linux/arm/v7");
    assert.equal(platformOfConfig(bufferOf({ ...config, variant: "" })), "linux/arm");
    assert.equal(platformOfConfig(bufferOf({ os: "linux" })), undefined);
  });
});
