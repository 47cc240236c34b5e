import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { aNodeReport } from "#test/kinds.ts";
import { reportSlimmer } from "./transforms.ts";

describe("reportSlimmer()", () => {
  test("makes equal images of all reports one object", () => {
    const slim = reportSlimmer();
    const [one, other] = [7, 8].map((sizeBytes) =>
      slim(aNodeReport(`n${sizeBytes}`, { "r.io/x:1": { digest: "sha256:1", sizeBytes } })),
    );

    assert.equal(one?.status?.images[0], other?.status?.images[0]);
  });

  test("keeps what is remarked of an image that is there", () => {
    const moved = { digest: "sha256:2", reason: "TagMoved", sizeBytes: 7 };
    const [image] = reportSlimmer()(aNodeReport("n", { "r.io/x:1": moved })).status?.images ?? [];

    assert.deepEqual([image?.reason, image?.digest], ["TagMoved", "sha256:2"]);
  });

  test("keeps the first that a report says of an image", () => {
    const report = aNodeReport("n", { "r.io/x:1": {}, "r.io/y:1": {} });
    const images = [...(report.status?.images ?? []), ...(report.status?.images ?? [])];
    const slimmed = reportSlimmer()({
      ...report,
      ...(report.status && { status: { ...report.status, images } }),
    });

    assert.deepEqual(
      slimmed.status?.images.map(({ reference }) => reference),
      ["r.io/x:1", "r.io/y:1"],
    );
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
