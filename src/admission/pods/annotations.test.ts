import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { assertLinear } from "#test/cost.ts";
import { parseWishes } from "./annotations.ts";

const inject = "image.stvz.io/inject";

function wishesFor(text: string): string {
  const { pullPolicy, nodes } = parseWishes({ [inject]: text });
  return `${pullPolicy ?? "-"} ${nodes ?? "-"}`;
}

function selected(annotations: Record<string, string>): string[] {
  const wishes = parseWishes(annotations);
  return ["web", "web-log", "side", "setup"].filter((name) => wishes.selectsContainer(name));
}

describe("parseWishes()", () => {
  const cases = {
    "pull-policy": "Never -",
    "pull-policy=Never": "Never -",
    "pull-policy=IfNotPresent": "IfNotPresent -",
    selectors: "- Required",
    "selectors=required": "- Required",
    "selectors=preferred": "- Preferred",
    " pull-policy ,\tselectors\n": "Never Required",
    ",,selectors,": "- Required",
    "selectors,selectors=preferred": "- Preferred",
    "selectors=preferred,selectors": "- Required",
    "Selectors,PULL-POLICY": "- -",
    "": "- -",
  };
  for (const [text, expected] of Object.entries(cases)) {
    test(`reads ${JSON.stringify(text)}`, () => {
      assert.equal(wishesFor(text), expected);
    });
  }

  test("tells whether the pod asks, whatever the words", () => {
    assert.equal(parseWishes({ [inject]: "" }).isAsking, true);
    assert.equal(parseWishes({ "image.stvz.io/exclude": "web" }).isAsking, false);
    assert.equal(parseWishes({ "image.stvz.io/injected": "true" }).isAsking, false);
    assert.equal(parseWishes(undefined).isAsking, false);
    assert.equal(parseWishes("selectors").isAsking, false);
    assert.equal(parseWishes({ [inject]: ["selectors"] }).isAsking, false);
  });

  test("warns of words it does not know, and of few of many", () => {
    const { warnings, nodes } = parseWishes({ [inject]: "selectors, pull_policy" });

    assert.equal(nodes, "Required");
    assert.deepEqual(warnings, [
      'annotation image.stvz.io/inject: "pull_policy" is not known; it takes pull-policy, pull-policy=IfNotPresent, selectors and selectors=preferred',
    ]);
    const many = parseWishes({ [inject]: Array.from({ length: 9 }, (_, at) => `w${at}`).join() });
    assert.equal(many.warnings.length, 6);
    assert.match(many.warnings[5] ?? "", /4 more words are not known/);
  });

  test("says that redirect comes later", () => {
    assert.deepEqual(parseWishes({ [inject]: "redirect" }).warnings, [
      'annotation image.stvz.io/inject: "redirect" is not supported yet',
    ]);
  });

  test("is about all containers, those it names, or all but those it names", () => {
    assert.deepEqual(selected({}), ["web", "web-log", "side", "setup"]);
    assert.deepEqual(selected({ "image.stvz.io/include": "web" }), ["web"]);
    assert.deepEqual(selected({ "image.stvz.io/included": "web*, side" }), [
      "web",
      "web-log",
      "side",
    ]);
    assert.deepEqual(selected({ "image.stvz.io/exclude": "web" }), ["web-log", "side", "setup"]);
    assert.deepEqual(selected({ "image.stvz.io/excluded": "*" }), []);
    assert.deepEqual(
      selected({ "image.stvz.io/include": "web", "image.stvz.io/included": "side" }),
      ["web", "side"],
    );
  });

  test("includes before it excludes", () => {
    const both = { "image.stvz.io/include": "web*", "image.stvz.io/exclude": "web-log,side" };

    assert.deepEqual(selected(both), ["web", "web-log"]);
  });

  test("changes no container if there are more globs than it looks at", () => {
    const globs = Array.from({ length: 65 }, (_, at) => `w${at}*`).join();
    const wishes = parseWishes({ [inject]: "selectors", "image.stvz.io/exclude": globs });

    assert.equal(wishes.selectsContainer("web"), false);
    assert.match(wishes.warnings.join(), /more than 64 globs: no container is changed/);
  });

  test("takes any number of names, which cost no more for each container", () => {
    const names = Array.from({ length: 20_000 }, (_, at) => `n${at}`).join();
    const wishes = parseWishes({ "image.stvz.io/exclude": names });

    assert.equal(wishes.selectsContainer("n19999"), false);
    assert.equal(wishes.selectsContainer("web"), true);
  });

  test("reads what is long in linear time", () => {
    for (const part of ["selectors,", "*", "*a", ",", " ", "x", "a*,"]) {
      assertLinear(
        (size) => {
          const text = part.repeat(size / part.length);
          const wishes = parseWishes({ [inject]: text, "image.stvz.io/exclude": text });
          wishes.selectsContainer("a".repeat(63));
        },
        262_144,
        JSON.stringify(part),
      );
    }
  });
});
