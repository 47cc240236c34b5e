import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { assertLinear } from "#test/cost.ts";
import { redact } from "./redact.ts";

const table = {
  "drops the user part of a URL": [
    'Get "https://user:pa@ss@registry.test/v2/": EOF',
    'Get "https://registry.test/v2/": EOF',
  ],
  "drops queries and fragments of URLs": [
    'Get "https://blobs.test/x?X-Amz-Signature=abc&y=1#f": EOF',
    'Get "https://blobs.test/x": EOF',
  ],
  "drops the query of a relative redirect": [
    'redirect to "/blob?sig=abc": refused',
    'redirect to "/blob": refused',
  ],
  "drops authorization values": [
    "sent Authorization: Bearer eyJhbGciOi.eyJzdWIi-_.abc",
    "sent Authorization: Bearer ***",
  ],
  "makes one line": ["errors:\n\tdenied\r\nunauthorized\u0000", "errors: denied unauthorized"],
  "leaves questions and ordinary words alone": [
    "basic auth failed: really? yes",
    "basic auth failed: really? yes",
  ],
} as const;

describe("redact()", () => {
  for (const [fact, [text, wanted]] of Object.entries(table)) {
    test(fact, () => {
      assert.equal(redact(text, { maxLength: 256 }), wanted);
    });
  }

  test("keeps the end of a long text, where the root cause is", () => {
    const text = `${"wrapped: ".repeat(100)}no space left on device`;

    const short = redact(text, { maxLength: 30 });

    assert.equal(short.length, 30);
    assert.match(short, /^….*no space left on device$/);
  });

  test("takes linear time over what a hostile registry may send", () => {
    for (const piece of ["a-", "a://", "?a", "a://b@", "Basic ", "\u0000"]) {
      const size = 32_768 / piece.length; // An eighth of it is longer than what the bounds let in.
      assertLinear((size) => redact(piece.repeat(size), { maxLength: 256 }), size, piece);
    }
  });

  test("leaves no given secret", () => {
    const secret = fc.string({ minLength: 4, maxLength: 20 }).filter((s) => !s.includes("*"));
    fc.assert(
      fc.property(secret, fc.string(), fc.string(), (word, before, after) => {
        const text = redact(before + word + after, { maxLength: 1000, secrets: [word] });
        assert.ok(!text.includes(word));
      }),
    );
  });
});
