import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { nearestName } from "./nearest.ts";

describe("nearestName()", () => {
  const fields = ["registry", "repositories", "platforms", "interval", "tags", "tls"];
  const cases: Record<string, string | undefined> = {
    registery: "registry",
    Repositories: "repositories",
    platfroms: "platforms",
    intervall: "interval",
    tag: "tags",
    image: undefined,
    "": undefined,
  };
  for (const [written, meant] of Object.entries(cases)) {
    test(`takes "${written}" for ${meant ?? "none of them"}`, () => {
      assert.equal(nearestName(written, fields), meant);
    });
  }
});
