import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { imageKeys, repositoryOf } from "./image-keys.ts";

const digest = `sha256:${"a".repeat(64)}`;

describe("imageKeys()", () => {
  const cases: Record<string, readonly string[]> = {
    debian: ["docker.io/library/debian:latest"],
    "REG.test:443/a:1": ["reg.test/a:1"],
    "reg.test:5000/a/b:1": ["reg.test:5000/a/b:1"],
    [`reg.test/a:1@${digest}`]: ["reg.test/a:1", `reg.test/a@${digest}`],
    [`docker-pullable://reg.test/a@${digest}`]: [`reg.test/a@${digest}`],
    "": [],
    "Not An Image": [],
    ["a".repeat(64)]: [],
  };
  for (const [text, keys] of Object.entries(cases)) {
    test(`reads ${JSON.stringify(text.slice(0, 60))}`, () => {
      assert.deepEqual(imageKeys(text), keys);
    });
  }

  test("tells the repository of each key", () => {
    for (const text of ["reg.test:5000/a/b:1", `reg.test:5000/a/b@${digest}`]) {
      assert.deepEqual(imageKeys(text).map(repositoryOf), ["reg.test:5000/a/b"]);
    }
  });
});
