import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { assertLinear } from "#test/cost.ts";
import { nextLink } from "./tag-page.ts";

const table: Record<string, [header: string | undefined, target: string | undefined]> = {
  "reads what registries send": [
    `</v2/a/tags/list?n=2&last=b>; rel="next"`,
    "/v2/a/tags/list?n=2&last=b",
  ],
  "reads a relation without quotes": ["<https://a.test/b>;rel=next", "https://a.test/b"],
  "reads one of several links": ['</a>; rel="prev", </b>; title="x, y"; rel="next"', "/b"],
  "reads one of several relations": ['</a>; rel="Last NEXT"', "/a"],
  "finds no other relation": ['</a>; rel="nextish", </b>; rel="prev"', undefined],
  "finds none where the brackets are missing": ['/a; rel="next"', undefined],
  "finds none without a header": [undefined, undefined],
};

describe("nextLink()", () => {
  for (const [fact, [header, target]] of Object.entries(table)) {
    test(fact, () => {
      assert.equal(nextLink(header), target);
    });
  }

  test("takes linear time over a hostile header", () => {
    for (const piece of ["<", "<a>", "<a>;", "<a>;b=", '<a>;b="', "; ", "<a>; rel = "]) {
      assertLinear((size) => nextLink(`<a>${piece.repeat(size)}`), 60_000, piece);
    }
  });
});
