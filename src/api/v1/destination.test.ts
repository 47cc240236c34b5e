import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import { parseRepository, type Repository } from "#oci/reference.ts";
import {
  DestinationError,
  destinationPath,
  destinationsOf,
  parseDestination,
  repositoryKey,
} from "./destination.ts";

const local = parseDestination("registry.local:5000");

function pathOf(source: string, template?: string): string {
  return destinationPath(local, parseRepository(source), template);
}

describe("parseDestination()", () => {
  test("takes host, port and prefix apart", () => {
    assert.deepEqual(parseDestination("registry.local"), {
      registry: "registry.local",
      prefix: "",
    });
    assert.deepEqual(parseDestination("localhost:5000/mirror/eu"), {
      registry: "localhost:5000",
      prefix: "mirror/eu",
    });
    assert.deepEqual(parseDestination("docker.io/me"), { registry: "docker.io", prefix: "me" });
  });

  test("refuses what is no host, and what is no prefix", () => {
    for (const text of ["", "registry", "mirror/eu", "registry.local/", "registry.local/UPPER"]) {
      assert.throws(() => parseDestination(text), DestinationError, text);
    }
  });
});

describe("destinationPath()", () => {
  const cases: Record<string, [source: string, template: string | undefined, path: string]> = {
    "keeps host and path": ["debian", undefined, "docker.io/library/debian"],
    "writes a port with an underscore": ["localhost:5000/a/b", undefined, "localhost_5000/a/b"],
    "writes a host in lower case": ["GHCR.io/a", undefined, "ghcr.io/a"],
    "spells an address out": ["[::1]:5000/a", undefined, "ipv6__0-0-0-0-0-0-0-1_5000/a"],
    "fills in org and name": ["ghcr.io/a/b/c", "x/{org}-mirror/{name}", "x/a/b-mirror/c"],
    "leaves out an org that is empty": ["ghcr.io/app", "{org}/{name}", "app"],
  };
  for (const [fact, [source, template, path]] of Object.entries(cases)) {
    test(fact, () => {
      assert.equal(pathOf(source, template), path);
    });
  }

  test("puts the prefix before", () => {
    const destination = parseDestination("registry.local/mirror");

    assert.equal(destinationPath(destination, parseRepository("ghcr.io/a")), "mirror/ghcr.io/a");
  });

  test("refuses a template with other parts, and one that makes no path", () => {
    for (const template of [
      "{tag}",
      "{}",
      "{toString}",
      "UPPER/{name}",
      "{name}:1",
      "",
      "a b/{name}",
    ]) {
      assert.throws(() => pathOf("ghcr.io/a/b", template), DestinationError, template);
    }
  });

  test("cuts a name that is too long, so that two that differ still do", () => {
    const long = `ghcr.io/${"a".repeat(230)}`;
    const paths = [`${long}/b`, `${long}/c`].map((source) =>
      pathOf(source, "prefix/{host}/{path}"),
    );

    assert.notEqual(paths[0], paths[1]);
    for (const path of paths) assert.ok(`registry.local:5000/${path}`.length <= 255);
  });
});

const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?$/);
const host = fc.oneof(
  fc.constantFrom("docker.io", "localhost", "[::1]", "[0:0::1]:5000", "[fe80::1]:80"),
  fc.tuple(label, label).map(([a, b]) => `${a}.${b}`),
  fc.tuple(label, fc.integer({ min: 1, max: 65_535 })).map(([name, port]) => `${name}:${port}`),
);
const component = fc.stringMatching(/^[a-z0-9]{1,3}((\.|_|__|-|--)[a-z0-9]{1,3}){0,2}$/);
const longComponent = fc.stringMatching(/^[a-z0-9]{60,70}$/);
const path = fc.oneof(
  fc.array(component, { minLength: 1, maxLength: 3 }),
  fc.array(longComponent, { minLength: 2, maxLength: 3 }),
);

function tryParse(text: string): Repository | undefined {
  try {
    return parseRepository(text);
  } catch {
    return undefined;
  }
}

const source = fc
  .tuple(host, path)
  .map(([registry, parts]) => tryParse(`${registry}/${parts.join("/")}`))
  .filter((parsed): parsed is Repository => parsed !== undefined);

/** One address has several spellings, and is one source. */
function canonical({ registry, path: name }: Repository): string {
  return `${registry.replace("0:0::1", "::1")}/${name}`;
}

describe("destinationsOf()", () => {
  test("never has two sources land on one name by the default template", () => {
    fc.assert(
      fc.property(source, source, (a, b) => {
        fc.pre(canonical(a) !== canonical(b));
        const [left, right] = [a, b].map((each) => destinationPath(local, each));
        assert.notEqual(left, right);
      }),
      { numRuns: 2_000 },
    );
  });

  test("makes paths that every registry takes", () => {
    fc.assert(
      fc.property(source, (each) => {
        const made = destinationPath(local, each);
        assert.deepEqual(parseRepository(`${local.registry}/${made}`).path, made);
      }),
    );
  });

  test("names the sources that would overwrite one another, and goes on with the rest", () => {
    const names = ["ghcr.io/a/nginx", "quay.io/b/nginx", "quay.io/b/redis", "quay.io/b/redis"];
    const { paths, collisions } = destinationsOf(local, names.map(parseRepository), "{name}");

    assert.deepEqual(collisions, [
      { path: "nginx", sources: ["ghcr.io/a/nginx", "quay.io/b/nginx"] },
    ]);
    assert.deepEqual([...paths], [["quay.io/b/redis", "redis"]]);
  });

  test("says for which sources there is no path", () => {
    const { problems } = destinationsOf(local, [parseRepository("ghcr.io/a/b")], "{x}");

    assert.match(problems.get("ghcr.io/a/b") ?? "", /^must have none but/);
  });
});

describe("repositoryKey()", () => {
  test("is one for all spellings of a registry", () => {
    const keys = ["Reg.Test", "reg.test", "reg.test:443", "REG.test:80"].map((registry) =>
      repositoryKey({ registry, path: "a" }),
    );
    assert.deepEqual(new Set(keys), new Set(["reg.test/a"]));
    assert.notEqual(repositoryKey({ registry: "reg.test:5000", path: "a" }), "reg.test/a");
  });
});
