import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { nodeReports } from "#api/v1/resources.ts";
import { reportStatus, type Facts } from "./report.ts";
import { newlyOwed, type TrackedImage } from "./tracked-image.ts";

const now = new Date("2026-01-01T00:00:00.987Z");

function anImage(more: Partial<TrackedImage> = {}): TrackedImage {
  return { ...newlyOwed("r.io/x:1", now), ...more };
}

function facts(images: TrackedImage[], more: Partial<Facts> = {}): Facts {
  return {
    images,
    permission: { isAllowed: true },
    errorThreshold: 3,
    runtime: { name: "containerd", version: "v2.4.2" },
    agentVersion: "1.2.3",
    observedPlan: "abc",
    ...more,
  };
}

function reportedAttempts(attempts: number): number | undefined {
  return reportStatus(facts([anImage({ attempts })])).images[0]?.attempts;
}

describe("reportStatus()", () => {
  test("lists the images by reference, and who says so", () => {
    const references = ["r.io/b:1", "r.io/a:1", "a.io/z:1"];
    const status = reportStatus(facts(references.map((reference) => anImage({ reference }))));

    assert.deepEqual(status, {
      images: ["a.io/z:1", "r.io/a:1", "r.io/b:1"].map((reference) => ({
        reference,
        state: "pending",
        since: "2026-01-01T00:00:00Z",
      })),
      runtime: { name: "containerd", version: "v2.4.2" },
      agentVersion: "1.2.3",
      observedPlan: "abc",
    });
  });

  test("says what an available image is, and why another is not there", () => {
    const held = { digest: "sha256:1", sizeBytes: 42 };
    const finding = { reason: "NotFound", message: "no such tag" };
    const [available, error] = reportStatus(
      facts([
        anImage({ reference: "a", state: "available", held }),
        anImage({ reference: "b", state: "error", finding, attempts: 3 }),
      ]),
    ).images;

    const since = "2026-01-01T00:00:00Z";
    assert.deepEqual(available, { reference: "a", state: "available", ...held, since });
    assert.deepEqual(error, { reference: "b", state: "error", ...finding, attempts: 3, since });
  });

  test("gives the node's state as the reason of what has no other", () => {
    const permission = { isAllowed: false, reason: "DiskPressure" } as const;
    const images = [
      anImage({ reference: "a" }),
      anImage({ reference: "b", finding: { reason: "Throttled" } }),
      anImage({ reference: "c", state: "available", held: { sizeBytes: 1 } }),
    ];
    const reported = reportStatus(facts(images, { permission })).images;

    assert.deepEqual(
      reported.map(({ reason }) => reason),
      ["DiskPressure", "Throttled", undefined],
    );
  });

  test("counts failures only up to the threshold, so that an endless one is no news", () => {
    assert.deepEqual([0, 1, 3, 400].map(reportedAttempts), [undefined, 1, 3, 3]);
  });

  // Go writes "<" as six bytes, and a thousand such messages were more than etcd takes: then no image
  // of any namespace could be reported.
  test("fits into etcd with a thousand hostile messages", () => {
    const finding = { reason: "Unknown", message: "<".repeat(10_000) };
    const images = Array.from({ length: 1_000 }, (_, index) =>
      anImage({ reference: `r.io/${"x".repeat(370)}:${index}`, finding, attempts: 1 }),
    );
    const written = JSON.stringify(reportStatus(facts(images))).replaceAll("<", "\\u003c");

    assert.ok(written.length < 1_200_000, `${written.length} bytes`);
  });

  test("cuts long texts, and not within a character", () => {
    const message = `${"a".repeat(254)}😀 and more`;
    const runtime = { name: "n".repeat(100), version: "v".repeat(200) };
    const status = reportStatus(
      facts([anImage({ finding: { reason: "Unknown", message } })], { runtime }),
    );

    assert.equal(status.images[0]?.message, `${"a".repeat(254)}…`);
    assert.equal(status.runtime.name.length, 64);
    nodeReports.parse({ metadata: { name: "worker" }, status });
  });
});
