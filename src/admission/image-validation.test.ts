import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import type { ImageSpec } from "#api/v1/image.ts";
import { anImage } from "#test/kinds.ts";
import { validateImage } from "./image-validation.ts";

const listed = { listSelection: "listed" } as const;
const digest = `sha256:${"0a".repeat(32)}`;

/** The faults of an Image, each in a line. */
function faultsOf(spec: Partial<ImageSpec>, previous?: Partial<ImageSpec>): string[] {
  const { faults } = validateImage(anImage(spec), previous && anImage(previous));
  return faults.map(({ path, value, message }) => `${path}: ${value}: ${message}`);
}

function warningsOf(spec: Partial<ImageSpec>, previous?: Partial<ImageSpec>): readonly string[] {
  return validateImage(anImage(spec), previous && anImage(previous)).warnings;
}

describe("validateImage()", () => {
  test("lets an Image in that is in order", () => {
    const spec: Partial<ImageSpec> = {
      selector: [{ key: "disk", operator: "In", values: ["fast"] }],
      repositories: [
        { name: "debian", tags: ["bookworm", "12"], digests: [digest], ...listed },
        { name: "ghcr.io/org/app", tags: ["bookworm"], ...listed },
        {
          name: "localhost:5000/app",
          listSelection: "all",
          filter: { include: ["v[0-9.]+"], exclude: [".*-rc"], semver: "^1", newest: 3 },
        },
      ],
      imagePullSecrets: [{ name: "registry.login-1" }],
    };

    assert.deepEqual(validateImage(anImage(spec)), { faults: [], warnings: [] });
  });

  test("finds one image asked for twice under names that look different", () => {
    const repositories = [
      { name: "debian", tags: ["bookworm"], digests: [digest], ...listed },
      { name: "docker.io/library/debian", tags: ["trixie", "bookworm"], ...listed },
      { name: "index.docker.io/debian", tags: ["trixie"], digests: [digest], ...listed },
      { name: "redis", tags: ["latest"], ...listed },
      { name: "library/redis", ...listed },
    ];

    assert.deepEqual(faultsOf({ repositories }), [
      "spec.repositories[1].tags[1]: bookworm: must not ask for docker.io/library/debian:bookworm again, as spec.repositories[0].tags[0] does",
      "spec.repositories[2].tags[0]: trixie: must not ask for docker.io/library/debian:trixie again, as spec.repositories[1].tags[0] does",
      `spec.repositories[2].digests[0]: ${digest}: must not ask for docker.io/library/debian@${digest} again, as spec.repositories[0].digests[0] does`,
      "spec.repositories[4].name: library/redis: must not ask for docker.io/library/redis:latest again, as spec.repositories[3].tags[0] does",
    ]);
  });

  test("finds names that are only wrong once they are spelled out", () => {
    const name = `a/${"b".repeat(250)}`;
    const [fault] = faultsOf({ repositories: [{ name, tags: ["1"], ...listed }] });

    assert.equal(
      fault,
      `spec.repositories[0].name: ${name}: must have at most 255 characters of registry and path`,
    );
  });

  test("tells all faults at once, each with its field, its value and what was expected", () => {
    const faults = faultsOf({
      selector: [
        { key: "disk", operator: "In", values: [] },
        { key: "cpu", operator: "Gt", values: ["many"] },
      ],
      repositories: [
        { name: "UPPER/case", tags: ["1"], ...listed },
        { name: "busybox", tags: ["-x"], digests: ["sha256:1"], ...listed },
        {
          name: "redis",
          listSelection: "all",
          filter: { include: ["("], exclude: ["a(?!b)"], semver: "newer", newest: 1 },
        },
      ],
      imagePullSecrets: [{ name: "Login" }],
    });

    assert.deepEqual(
      faults.map((fault) => fault.split(": ", 1)[0]),
      [
        "spec.selector[0].values",
        "spec.selector[1].values",
        "spec.repositories[0].name",
        "spec.repositories[1].tags[0]",
        "spec.repositories[1].digests[0]",
        "spec.repositories[2].filter.include[0]",
        "spec.repositories[2].filter.exclude[0]",
        "spec.repositories[2].filter.semver",
        "spec.imagePullSecrets[0].name",
      ],
    );
    assert.match(faults[1] ?? "", /: many: operators Gt and Lt need exactly one value/);
  });

  test("does not compile more expressions than everybody else can wait for", () => {
    const include = Array.from({ length: 16 }, () => "(");
    const repositories = ["a", "b", "c", "d", "e"].map((name) => ({
      name,
      listSelection: "all" as const,
      filter: { include, newest: 1 },
    }));

    assert.deepEqual(faultsOf({ repositories }), [
      "spec.repositories: 80 expressions: must have at most 64 regular expressions in all filters together",
    ]);
  });

  describe("of an update", () => {
    const bad = { name: "redis", tags: ["latest", "?"], ...listed };
    const twin = { name: "library/redis", tags: ["latest"], ...listed };
    const before = { repositories: [bad, twin], imagePullPolicy: "Always" } as const;

    test("does not tell the faults that were there before, wherever they now stand", () => {
      const first = { name: "debian", tags: ["12"], ...listed };

      assert.equal(faultsOf(before).length, 2);
      assert.deepEqual(faultsOf({ ...before, priority: 1 }, before), []);
      assert.deepEqual(faultsOf({ ...before, repositories: [first, bad, twin] }, before), []);
      assert.deepEqual(faultsOf({ ...before, repositories: [twin] }, before), []);
    });

    test("tells new faults, also if they are like an old one", () => {
      const other = { name: "busybox", tags: ["?"], ...listed };
      const faults = faultsOf({ ...before, repositories: [bad, twin, other] }, before);

      assert.equal(faults.length, 1);
      assert.match(faults[0] ?? "", /^spec\.repositories\[2\]\.tags\[0\]: \?: /);
    });

    test("has no faults at all if nothing was changed, whatever it says", () => {
      const name = fc.oneof(fc.string(), fc.constantFrom("debian", "library/debian", "A", "a:b"));
      const tags = fc.array(fc.oneof(fc.string(), fc.constantFrom("1", "?")), { maxLength: 3 });
      const filter = fc.record({ include: fc.array(fc.string(), { maxLength: 2 }) });
      const repository = fc.record({
        name,
        tags,
        listSelection: fc.constantFrom("listed", "all"),
        filter,
      });
      const property = fc.property(fc.array(repository, { maxLength: 4 }), (repositories) => {
        assert.deepEqual(faultsOf({ repositories }, { repositories }), []);
        assert.deepEqual(warningsOf({ repositories }, { repositories }), []);
      });
      fc.assert(property);
    });
  });

  describe("warns", () => {
    test("of tags that move while nodes keep what they pulled first", () => {
      const repositories = [
        { name: "redis", tags: ["7", "latest"], ...listed },
        { name: "busybox", ...listed },
      ];
      const warnings = warningsOf({ repositories });

      assert.equal(warnings.length, 2);
      assert.match(
        warnings[0] ?? "",
        /^spec\.repositories\[0\]\.tags\[1\]: "redis:latest" is moved/,
      );
      assert.match(warnings[1] ?? "", /^spec\.repositories\[1\]: no tags means "latest"/);
      assert.deepEqual(warningsOf({ repositories, imagePullPolicy: "Always" }), []);
      assert.deepEqual(warningsOf({ repositories }, { repositories }), [], "it was told once");
    });

    test("of registries that are asked for many tags again and again, and of full disks", () => {
      const all = { name: "redis", listSelection: "all", filter: { newest: 100 } } as const;
      const tags = Array.from({ length: 60 }, (_, index) => `t${index}`);
      const repositories = [all, { name: "busybox", tags, ...listed }];
      const warnings = warningsOf({ repositories, imagePullPolicy: "Always" });

      assert.equal(warnings.length, 2);
      assert.match(warnings[0] ?? "", /up to 100 tags again and again/);
      assert.match(warnings[1] ?? "", /up to 160 images go to every selected node/);
    });

    test("in few and short lines", () => {
      const name = `${"long/".repeat(40)}name`;
      const repositories = Array.from({ length: 60 }, (_, index) => ({
        name: `${name}${index}`,
        tags: ["latest", "main"],
        ...listed,
      }));
      const warnings = warningsOf({ repositories });

      assert.equal(warnings.length, 6);
      assert.match(warnings[5] ?? "", /^116 more/);
      assert.ok(warnings.every(({ length }) => length <= 250));
    });
  });
});
