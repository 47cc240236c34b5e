import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { InvalidPlaceError, isLayoutName, parseLayoutName } from "./place.ts";

describe("isLayoutName()", () => {
  test("tells layouts from images", () => {
    for (const text of ["oci:images", "oci:/srv/images", "oci:./5000", "oci:", "oci:a:ghcr.io/b"]) {
      assert.ok(isLayoutName(text), text);
    }
    for (const text of ["oci/app", "ghcr.io/oci", "oci:5000/app", "debian", "localhost:5000"]) {
      assert.ok(!isLayoutName(text), text);
    }
  });
});

describe("parseLayoutName()", () => {
  test("takes folder and repository apart, which may have a port", () => {
    assert.deepEqual(parseLayoutName("oci:./images"), { folder: "./images" });
    assert.deepEqual(parseLayoutName("oci:/srv/x:debian"), {
      folder: "/srv/x",
      repository: { registry: "docker.io", path: "library/debian" },
    });
    assert.deepEqual(parseLayoutName("oci:x:localhost:5000/a"), {
      folder: "x",
      repository: { registry: "localhost:5000", path: "a" },
    });
  });

  for (const text of ["oci:", "oci::debian", "oci:a\0b", "oci:x:", "oci:x:A", "oci:x:a:1"]) {
    test(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(() => parseLayoutName(text), InvalidPlaceError);
    });
  }
});
