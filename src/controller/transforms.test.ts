import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { aNodeReport } from "#test/kinds.ts";
import { reportSlimmer } from "./transforms.ts";

describe("reportSlimmer()", () => {
  test("makes equal images of all reports one object", () => {
    const slim = reportSlimmer();
    const digests = ["sha256:1", "sha256:2"];
    const [one, other] = digests.map((digest, index) =>
      slim(aNodeReport(`n${index}`, { "r.io/x:1": { digest, sizeBytes: 7 } })),
    );

    assert.equal(one?.status?.images[0], other?.status?.images[0]);
  });

  test("keeps what is told of a failure", () => {
    const failure = {
      state: "error",
      attempts: 3,
      reason: "NotFound",
      message: "no such tag",
      since: "2026-01-02T00:00:00Z",
    } as const;
    const slimmed = reportSlimmer()(aNodeReport("n", { "r.io/x:1": failure }));

    assert.deepEqual(slimmed.status?.images, [{ reference: "r.io/x:1", ...failure }]);
  });
});
