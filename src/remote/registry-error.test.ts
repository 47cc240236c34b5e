import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";

import { anyText } from "#test/any-text.ts";
import { assertLinear } from "#test/cost.ts";
import { refusalError } from "./registry-error.ts";

const login = { username: "anna", password: "anemone" };
const authorization = `Basic ${Buffer.from("anna:anemone").toString("base64")}`;

function reasonOf(body: unknown): string {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return refusalError(
    { status: 400, retryAfter: undefined, body: Buffer.from(text) },
    { act: "ask", now: new Date(0), login, authorization },
  ).reason;
}

const ociError = (code: unknown, message: unknown, more = {}): unknown => ({
  errors: [{ code, message, ...more }],
});

describe("refusalError()", () => {
  const table: Record<string, [body: unknown, reason: string]> = {
    "tells code and message of an OCI error, and nothing else": [
      ociError("DENIED", "requested access is denied", { detail: "secret" }),
      "DENIED: requested access is denied",
    ],
    "tells a code alone": [ociError("MANIFEST_UNKNOWN", undefined), "MANIFEST_UNKNOWN"],
    "tells nothing of another page": ["<h1>secret</h1>", "it answers with status 400"],
    "tells nothing of other JSON": [{ message: "secret" }, "it answers with status 400"],
    "tells nothing of errors that are none": [{ errors: ["a", 1] }, "it answers with status 400"],
    "tells nothing of codes that are no texts": [ociError(1, {}), "it answers with status 400"],
    "takes queries out of URLs": [
      ociError("UNKNOWN", 'GET "https://blobs.test/x?X-Amz-Signature=abc&y=1": EOF'),
      'UNKNOWN: GET "https://blobs.test/x": EOF',
    ],
    "takes the query out of a relative URL": [
      ociError("UNKNOWN", "at /x?sig=abc"),
      "UNKNOWN: at /x",
    ],
    "takes logins out of URLs": [
      ociError("UNKNOWN", "at https://ben:pw@a.test/x"),
      "UNKNOWN: at https://a.test/x",
    ],
    "takes authorization values out": [
      ociError("UNKNOWN", "got Bearer eyJhbGciOi.eyJzdWIi-_.abc"),
      "UNKNOWN: got Bearer ***",
    ],
    "takes the user name out": [ociError("DENIED", "anna may not"), "DENIED: *** may not"],
    "leaves out a message that quotes the password": [
      ociError("DENIED", "anemone is wrong"),
      "DENIED",
    ],
    "leaves out a message that quotes the header": [
      ociError("DENIED", `${authorization.slice(6)} is wrong`),
      "DENIED",
    ],
    "leaves out a code that quotes the password": [ociError("anemone", "wrong"), "wrong"],
    "makes one line, written in one direction": [
      ociError("A\u0000B", "one\r\n\ttwo\u202Ethree\u001b[31m"),
      "A B: one two three [31m",
    ],
  };
  for (const [fact, [body, reason]] of Object.entries(table)) {
    test(fact, () => {
      assert.equal(reasonOf(body), reason);
    });
  }

  test("takes an error that says so for throttling, whatever the status", () => {
    const body = Buffer.from(JSON.stringify(ociError("toomanyrequests", "slow down")));
    const error = refusalError(
      { status: 403, retryAfter: "5", body },
      { act: "ask", now: new Date(0), login, authorization },
    );

    assert.equal(error.code, "THROTTLED");
    assert.equal(error.retryAfterMs, 5_000);
    assert.equal(error.retryable, true);
  });

  test("gives at most 256 characters in one line without a password, whatever it is told", () => {
    const text = anyText(400);
    fc.assert(
      fc.property(text, text, fc.boolean(), (before, after, isTelling) => {
        const reason = reasonOf(ociError(before, `${before}${isTelling ? "anemone" : ""}${after}`));

        assert.ok(reason.length <= 256);
        assert.ok(reason.isWellFormed());
        assert.doesNotMatch(reason, /anemone|[\p{Cc}\p{Cf}]/u);
      }),
    );
  });

  test("takes linear time over what a hostile registry may send", () => {
    for (const piece of ["a-", "//", "?a", "//b@", "Basic ", "?=", "\u0000"]) {
      const size = 64_000 / piece.length;
      assertLinear((size) => reasonOf(ociError("A", piece.repeat(size))), size, piece);
    }
  });
});
