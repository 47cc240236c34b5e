import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { runAnnotation, type Mirror, type MirrorSpec } from "#api/v1/mirror.ts";
import { aMirror, repositories } from "#test/mirrors.ts";
import { validateMirror } from "./mirror-validation.ts";

/** The faults of a Mirror, each in a line. */
function faultsOf(spec: Partial<MirrorSpec>, previous?: Partial<MirrorSpec>): string[] {
  const { faults } = validateMirror(aMirror(spec), previous && aMirror(previous));
  return faults.map(({ path, value, message }) => `${path}: ${value}: ${message}`);
}

function warningsOf(spec: Partial<MirrorSpec>, previous?: Partial<MirrorSpec>): string[] {
  const { warnings } = validateMirror(aMirror(spec), previous && aMirror(previous));
  return warnings.map((warning) => warning.split(":")[0] ?? "");
}

/** A Mirror that asks for a run by a text of this length. */
function annotated(length: number): Mirror {
  return aMirror({}, { annotations: { [runAnnotation]: "x".repeat(length) } });
}

const colliding = {
  destination: "{name}",
  repositories: repositories({ "ghcr.io/a/x": ["1"], "quay.io/b/x": ["1"] }),
};
const collision = /^spec\.repositories\[1\]\.name: quay\.io\/b\/x: must not be copied to /;

describe("validateMirror()", () => {
  test("lets a Mirror in that is in order, with tags that move", () => {
    const mirror = aMirror({
      repositories: repositories({ debian: ["latest", "12"], "ghcr.io/org/app": "all" }),
      schedule: "0 3 * * MON-FRI",
      timeZone: "Europe/Berlin",
      platforms: ["linux/arm64"],
      referrers: false,
      removalPolicy: "Delete",
      gracePeriod: "1h",
    });

    assert.deepEqual(validateMirror(mirror), { faults: [], warnings: [] });
  });

  test("tells all faults at once", () => {
    const found = faultsOf({
      ...colliding,
      pushSecret: { name: "Push" },
      interval: "5s",
      schedule: "* * * * 9",
      timeZone: "Berlin",
    });

    assert.deepEqual(
      found.map((line) => line.split(":")[0]),
      [
        "spec.repositories[1].name",
        "spec.pushSecret.name",
        "spec.interval",
        "spec.schedule",
        "spec.schedule",
        "spec.timeZone",
      ],
    );
  });

  test("tells of a request for a run that cannot be carried on", () => {
    assert.deepEqual(validateMirror(annotated(256)).faults, []);
    assert.deepEqual(
      validateMirror(annotated(257)).faults.map(({ path, message }) => `${path}: ${message}`),
      ["metadata.annotations[mirror.stvz.io/run]: must have at most 256 characters, like a date"],
    );
    assert.deepEqual(validateMirror(annotated(257), annotated(257)).faults, []);
  });

  describe("of an update", () => {
    test("does not tell the faults that were there before, wherever they now stand", () => {
      assert.match(faultsOf(colliding).join(), collision);
      assert.deepEqual(faultsOf(colliding, colliding), []);
      assert.deepEqual(faultsOf({ ...colliding, suspend: true }, colliding), []);
      const [first, second] = colliding.repositories;
      assert.ok(first && second);
      const more = [...repositories({ debian: ["12"] }), first, second];
      assert.deepEqual(faultsOf({ ...colliding, repositories: more }, colliding), []);
    });

    test("tells the faults that it brings", () => {
      assert.match(
        faultsOf({ ...colliding, interval: "1s" }, colliding).join(),
        /^spec\.interval: 1s/,
      );
      const ofOthers = repositories({ "ghcr.io/a/y": ["1"], "quay.io/b/y": ["1"] });
      assert.equal(faultsOf({ ...colliding, repositories: ofOthers }, colliding).length, 1);
    });
  });

  describe("warns", () => {
    const cases: Record<string, [spec: Partial<MirrorSpec>, warned: string[]]> = {
      "of plain HTTP": [
        { tls: { plainHTTP: true, insecureSkipVerify: false } },
        ["spec.tls.plainHTTP"],
      ],
      "of certificates that nobody checks": [
        { tls: { plainHTTP: false, insecureSkipVerify: true } },
        ["spec.tls.insecureSkipVerify"],
      ],
      "of copies that are gone in no time": [
        { removalPolicy: "Delete", gracePeriod: "59m59s" },
        ["spec.gracePeriod"],
      ],
      "not of a short grace that is for nothing": [{ gracePeriod: "0s" }, []],
      "of signatures that do not hold": [{ platforms: ["linux/amd64"] }, ["spec.platforms"]],
      "not of platforms without signatures": [{ platforms: ["linux/amd64"], referrers: false }, []],
    };
    for (const [what, [spec, warned]] of Object.entries(cases)) {
      test(what, () => {
        assert.deepEqual(warningsOf(spec), warned);
        assert.deepEqual(warningsOf(spec, spec), []);
      });
    }

    test("in lines that the API server does not cut off", () => {
      const { warnings } = validateMirror(
        aMirror({
          tls: { plainHTTP: true, insecureSkipVerify: true },
          removalPolicy: "Delete",
          gracePeriod: "000000h000000m000000s",
          platforms: ["linux/amd64"],
        }),
      );

      assert.equal(warnings.length, 4);
      assert.ok(warnings.every((warning) => warning.length <= 256));
    });
  });
});
