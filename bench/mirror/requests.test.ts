import assert from "node:assert/strict";
import { test } from "node:test";

import { countByMethod, countContentReads } from "./requests.ts";

const requests = [
  { method: "HEAD", path: "/v2/a/manifests/1" },
  { method: "GET", path: "/v2/a/manifests/1" },
  { method: "GET", path: "/v2/a/blobs/sha256:00" },
  { method: "GET", path: "/v2/a/tags/list" },
  { method: "GET", path: "/v2/a/referrers/sha256:00" },
  { method: "GET", path: "/v2/" },
];

test("requests are counted by method", () => {
  assert.deepEqual(
    [...countByMethod(requests)],
    [
      ["GET", 5],
      ["HEAD", 1],
    ],
  );
});

test("reading manifests and blobs counts, and nothing else", () => {
  assert.equal(countContentReads(requests), 2);
});
