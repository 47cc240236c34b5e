import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { anImage } from "#test/kinds.ts";
import { referencesOf } from "./references.ts";

const digest = `sha256:${"0a".repeat(32)}`;
const listed = { listSelection: "listed" } as const;

function namesOf(image: ReturnType<typeof anImage>): string[] {
  return referencesOf(image).references.map(({ reference }) => reference);
}

describe("referencesOf()", () => {
  test("joins each repository with its tags and digests, in full", () => {
    const image = anImage({
      priority: 7,
      repositories: [
        { name: "debian", tags: ["bookworm", "trixie"], digests: [digest], ...listed },
        { name: "localhost:5000/app", tags: ["1"], ...listed },
      ],
    });

    assert.deepEqual(referencesOf(image), {
      references: [
        { reference: "docker.io/library/debian:bookworm", priority: 7 },
        { reference: "docker.io/library/debian:trixie", priority: 7 },
        { reference: `docker.io/library/debian@${digest}`, priority: 7 },
        { reference: "localhost:5000/app:1", priority: 7 },
      ],
      problems: [],
    });
  });

  test("means latest where neither tags nor digests are given", () => {
    const image = anImage({ repositories: [{ name: "debian", ...listed }] });

    assert.deepEqual(namesOf(image), ["docker.io/library/debian:latest"]);
  });

  test("has each image once, however it is spelled", () => {
    const image = anImage({
      repositories: [
        { name: "debian", tags: ["1", "1"], ...listed },
        { name: "index.docker.io/debian", tags: ["1"], ...listed },
      ],
    });

    assert.deepEqual(namesOf(image), ["docker.io/library/debian:1"]);
  });

  test("makes problems of what names nothing, and goes on with the rest", () => {
    const image = anImage({
      repositories: [
        { name: "Debian", tags: ["1"], ...listed },
        { name: "debian", tags: ["-", "2"], digests: ["sha256:1"], ...listed },
        { name: "redis:7", ...listed },
      ],
    });
    const { references, problems } = referencesOf(image);

    assert.deepEqual(references, [{ reference: "docker.io/library/debian:2", priority: 0 }]);
    assert.deepEqual(
      problems.map(({ path, value }) => [path, value]),
      [
        ["spec.repositories[0].name", "Debian"],
        ["spec.repositories[1].tags[0]", "-"],
        ["spec.repositories[1].digests[0]", "sha256:1"],
        ["spec.repositories[2].name", "redis:7"],
      ],
    );
    assert.equal(problems[0]?.message, "must be in lower case before the tag");
  });

  test("takes the tags that a registry was found to have, where all are asked for", () => {
    const image = anImage({
      repositories: [
        { name: "busybox", listSelection: "all", filter: { newest: 3 } },
        { name: "redis", listSelection: "all", filter: { newest: 1 } },
      ],
    });
    const { references, problems } = referencesOf(image, ({ name }) =>
      name === "busybox" ? ["1.36", "1.37"] : undefined,
    );

    assert.deepEqual(
      references.map(({ reference }) => reference),
      ["docker.io/library/busybox:1.36", "docker.io/library/busybox:1.37"],
    );
    assert.deepEqual(problems, []);
  });

  test("does not wonder about latest where all tags are wrong", () => {
    const image = anImage({ repositories: [{ name: "debian", tags: ["?"], ...listed }] });

    assert.deepEqual(namesOf(image), []);
  });

  test("stops at 500 images and says so", () => {
    const tags = Array.from({ length: 200 }, (_, index) => `t${index}`);
    const repositories = ["a", "b", "c"].map((name) => ({ name, tags, ...listed }));
    const { references, problems } = referencesOf(anImage({ repositories }));

    assert.equal(references.length, 500);
    assert.deepEqual(
      problems.map(({ path, value }) => [path, value]),
      [["spec.repositories", "600 images"]],
    );
  });
});
