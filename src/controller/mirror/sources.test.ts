import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { aMirror, repositories } from "#test/mirrors.ts";
import { sourcesOf } from "./sources.ts";

function refusalsOf(...args: Parameters<typeof aMirror>): string[] {
  return sourcesOf(aMirror(...args)).refusals.map(
    ({ reason, source, message }) => `${reason}: ${source} ${message}`,
  );
}

describe("sourcesOf()", () => {
  test("names sources and targets in full", () => {
    const { copies, refusals } = sourcesOf(
      aMirror({
        registry: "target.test:5000/eu",
        repositories: repositories({ debian: ["12"], "ghcr.io/org/app": "all" }),
      }),
    );

    assert.deepEqual(
      copies.map(({ source, target }) => [source, target]),
      [
        ["docker.io/library/debian", "target.test:5000/eu/docker.io/library/debian"],
        ["ghcr.io/org/app", "target.test:5000/eu/ghcr.io/org/app"],
      ],
    );
    assert.deepEqual(copies[0]?.repository.tags, ["12"]);
    assert.deepEqual(refusals, []);
  });

  test("refuses the later ones of sources that meet, and copies the rest", () => {
    const spec = {
      destination: "{name}",
      repositories: repositories({ "a.test/x": "all", "b.test/x": "all", "b.test/y": "all" }),
    };
    const { copies } = sourcesOf(aMirror(spec));

    assert.deepEqual(
      copies.map(({ source }) => source),
      ["a.test/x", "b.test/y"],
    );
    assert.deepEqual(refusalsOf(spec), [
      "DestinationCollision: b.test/x must not be copied to target.test/x, as a.test/x is",
    ]);
  });

  test("refuses what is named twice, however it is spelled", () => {
    const names = ["debian", "docker.io/library/debian", "Ghcr.io/a/b", "ghcr.io:443/a/b"];
    const spec = {
      repositories: repositories(Object.fromEntries(names.map((name) => [name, "all"]))),
    };

    assert.deepEqual(refusalsOf(spec), [
      "DestinationCollision: docker.io/library/debian must not be named twice",
      "DestinationCollision: ghcr.io:443/a/b must not be named twice",
    ]);
  });

  test("refuses a target that is copied from", () => {
    const spec = {
      registry: "TARGET.test",
      repositories: repositories({ "a.test/x": "all", "target.test/a.test/x": "all" }),
    };

    assert.deepEqual(refusalsOf(spec), [
      "DestinationCollision: a.test/x must not be copied to TARGET.test/a.test/x, which is copied from",
    ]);
  });

  test("tells what makes no sense, source by source", () => {
    assert.match(
      refusalsOf({ repositories: repositories({ "A/b": "all" }) })[0] ?? "",
      /^InvalidSource: A\/b must/,
    );
    const [nowhere = ""] = refusalsOf({ registry: "nowhere" });
    assert.match(nowhere, /^InvalidDestination: .*spec\.registry must begin with a host/);
    const [template = ""] = refusalsOf({ destination: "{tag}" });
    assert.match(template, /^InvalidDestination: .*spec\.destination must have none but/);
  });

  test("looks at no more repositories than the schema allows", () => {
    const names = Array.from({ length: 100 }, (_, index) => [`a.test/x${index}`, "all"] as const);
    const { copies } = sourcesOf(
      aMirror({ repositories: repositories(Object.fromEntries(names)) }),
    );

    assert.equal(copies.length, 64);
  });
});
