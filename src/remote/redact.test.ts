import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";

import { assertLinear } from "#test/cost.ts";
import { redactedLine } from "./redact.ts";

describe("redactedLine()", () => {
  const lines = {
    "AccessDeniedException: no identity": "AccessDeniedException: no identity",
    "first\nlast line\n\n": "last line",
    "one\r\ntwo\u001b[31m": "two [31m",
    "password=reef is wrong": "password=[redacted] is wrong",
    'got {"Password": "reef", "x": 1}': 'got {"Password": [redacted], "x": 1}',
    "password: 'a red reef' is wrong": "password: [redacted] is wrong",
    "secretKey : reef": "secretKey : [redacted]",
    "sent Authorization: Basic cmVlZg==": "sent Authorization: [redacted]",
    "sent bearer reef to it": "sent bearer [redacted] to it",
    "GET https://anna:reef@r.io/v2/?sig=1 failed":
      "GET https://[redacted]@r.io/v2/?[redacted] failed",
    "key AKIAIOSFODNN7EXAMPLE is unknown": "key [redacted] is unknown",
    "jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.x expired":
      "jwt [redacted].[redacted].x expired",
  };
  for (const [text, line] of Object.entries(lines)) {
    test(`makes ${JSON.stringify(line)}`, () => assert.equal(redactedLine(text), line));
  }

  test("takes out known secrets, the longest first", () => {
    const line = redactedLine("with anemone-red and anemone", ["anemone", "anemone-red", "and"]);

    assert.equal(line, "with [redacted] and [redacted]");
  });

  test("is one line of bounded length without a known secret, whatever the text", () => {
    const secret = fc.string({ minLength: 8, maxLength: 40 });
    fc.assert(
      fc.property(fc.string(), secret, fc.string(), (before, secret, after) => {
        fc.pre(!"[redacted]".includes(secret) && !/[\r\n]/.test(secret));
        fc.pre(secret.trim() === secret);
        const line = redactedLine(before + secret + after, [secret]);
        assert.ok(line.length <= 301);
        assert.ok(!/[\r\n]/.test(line));
        assert.ok(!line.includes(secret));
      }),
    );
  });

  test("takes linear time over a hostile text", () => {
    for (const part of ["token", "//a", "?", "password=", "a=", "basic ", "Aa"]) {
      assertLinear((size) => redactedLine(part.repeat(size)), 4_096 / part.length, part);
    }
  });
});
