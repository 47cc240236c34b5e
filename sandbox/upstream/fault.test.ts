import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { findFault, type Fault } from "./fault.ts";

describe("findFault()", () => {
  const request = { host: "registry.test:5000", method: "GET", path: "/v2/a/blobs/sha256:1" };

  test("takes the first fault that matches host, method and path", () => {
    const faults: Fault[] = [
      { kind: "silence", host: "private.test:5002" },
      { kind: "silence", method: "HEAD" },
      { kind: "silence", path: "^/v2/b/" },
      { kind: "corrupt", path: "/blobs/" },
      { kind: "silence" },
    ];

    assert.equal(findFault(faults, request)?.kind, "corrupt");
  });

  test("leaves out a fault that is spent", () => {
    assert.equal(findFault([{ kind: "silence", times: 0 }], request), undefined);
  });
});
