import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";

import { assertLinear } from "#test/cost.ts";
import { parseChallenges } from "./challenge.ts";

type Wanted = [scheme: string, parameters: Record<string, string>][];

const table: Record<string, [header: string, wanted: Wanted]> = {
  "reads Basic": ['Basic realm="sandbox"', [["basic", { realm: "sandbox" }]]],
  "reads Bearer as Docker Hub sends it": [
    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
    [
      [
        "bearer",
        {
          realm: "https://auth.docker.io/token",
          service: "registry.docker.io",
          scope: "repository:a/b:pull,push",
        },
      ],
    ],
  ],
  "reads several challenges in one header": [
    'Negotiate, Bearer realm="https://a.test/token", service=a, Basic realm="x, y", charset="UTF-8"',
    [
      ["negotiate", {}],
      ["bearer", { realm: "https://a.test/token", service: "a" }],
      ["basic", { realm: "x, y", charset: "UTF-8" }],
    ],
  ],
  "takes the names in any case, and white space around equals signs": [
    'BEARER Realm = "https://a.test" , SERVICE = b',
    [["bearer", { realm: "https://a.test", service: "b" }]],
  ],
  "takes back what is escaped": ['Basic realm="a\\"b\\\\c"', [["basic", { realm: 'a"b\\c' }]]],
  "keeps the first of two values": ['Basic realm="a", realm="b"', [["basic", { realm: "a" }]]],
  "goes on after a token": [
    'Negotiate YII/x+y==, Basic realm="a"',
    [
      ["negotiate", {}],
      ["yii", {}],
      ["basic", { realm: "a" }],
    ],
  ],
  "leaves out a value whose quotes do not end": ['Basic realm="a', [["basic", { realm: "" }]]],
  "makes nothing of nothing": ["", []],
  "makes nothing of a parameter without a scheme": ['realm="a"', []],
};

describe("parseChallenges()", () => {
  for (const [fact, [header, wanted]] of Object.entries(table)) {
    test(fact, () => {
      const found = parseChallenges(header);

      assert.deepEqual(
        found.map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]),
        wanted,
      );
    });
  }

  test("gives back every value that was quoted", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary-ascii", maxLength: 50 }), (value) => {
        fc.pre(!/[\r\n]/.test(value));
        const quoted = value.replaceAll(/["\\]/g, "\\$&");

        const [challenge] = parseChallenges(`Bearer realm="${quoted}",service=a`);

        assert.equal(challenge?.parameters.get("realm"), value);
        assert.equal(challenge?.parameters.get("service"), "a");
      }),
    );
  });

  test("takes linear time over a hostile header", () => {
    for (const piece of ['a="', "a=", ",", '\\"', "a ", '="', "/"]) {
      assertLinear((size) => parseChallenges(`Basic ${piece.repeat(size)}`), 60_000, piece);
    }
  });
});
