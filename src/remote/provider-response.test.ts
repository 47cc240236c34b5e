import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";

import { parseReference } from "#oci/reference.ts";
import { anAnswer } from "#test/credential-providers.ts";
import { formatRequest, parseResponse } from "./provider-response.ts";

const anna = { username: "anna", password: "anemone" };

describe("formatRequest()", () => {
  test("names the repository, spelled out, and no tag", () => {
    assert.deepEqual(JSON.parse(formatRequest(parseReference("debian:12"))), {
      kind: "CredentialProviderRequest",
      apiVersion: "credentialprovider.kubelet.k8s.io/v1",
      image: "docker.io/library/debian",
    });
  });
});

describe("parseResponse()", () => {
  test("takes what a plugin writes", () => {
    const auth = { "*.dkr.ecr.eu-west-1.amazonaws.com": anna, "r.io:5000/team": anna };
    const text = JSON.stringify(anAnswer(auth, { cacheDuration: "6h0m0s" }));

    assert.deepEqual(parseResponse(text), {
      scope: "Registry",
      cacheMs: 6 * 3_600_000,
      entries: [
        { registry: "*.dkr.ecr.eu-west-1.amazonaws.com", path: "", login: anna },
        { registry: "r.io:5000", path: "team", login: anna },
      ],
      problems: [],
    });
  });

  test("takes an answer without a login and without a duration", () => {
    for (const field of [{}, { auth: null, cacheDuration: null }]) {
      const { auth: _, ...rest } = Object(anAnswer({}, { cacheKeyType: "Global" }));

      assert.deepEqual(parseResponse(JSON.stringify({ ...rest, ...field })), {
        scope: "Global",
        cacheMs: undefined,
        entries: [],
        problems: [],
      });
    }
  });

  test("leaves out a login that cannot be one, and quotes nothing of it", () => {
    const auth = {
      "r.io": anna,
      "not a host": anna,
      "empty.io": { username: "", password: "anemone" },
      "colon.io": { username: "an:na", password: "anemone" },
    };
    const response = parseResponse(JSON.stringify(anAnswer(auth)));

    assert.ok(typeof response === "object");
    assert.deepEqual(response.entries, [{ registry: "r.io", path: "", login: anna }]);
    assert.equal(response.problems.length, 3);
    assert.ok(!/anemone|not a host|an:na/.test(response.problems.join()));
  });

  const answer = Object(anAnswer({ "r.io": anna }));
  const mistakes: Record<string, [answer: unknown, expected: RegExp]> = {
    "no object": [["anemone"], /JSON object/],
    "another kind": [{ ...answer, kind: "List" }, /^kind/],
    "another version": [{ ...answer, apiVersion: "v1" }, /^apiVersion/],
    "no scope": [{ ...answer, cacheKeyType: undefined }, /^cacheKeyType/],
    "another scope": [{ ...answer, cacheKeyType: "anemone" }, /^cacheKeyType/],
    "a duration in seconds": [{ ...answer, cacheDuration: 3600 }, /^cacheDuration/],
    "a list of logins": [{ ...answer, auth: [anna] }, /^auth/],
  };
  for (const [what, [given, expected]] of Object.entries(mistakes)) {
    test(`refuses ${what}, and quotes nothing of it`, () => {
      const refusal = parseResponse(JSON.stringify(given));

      assert.ok(typeof refusal === "string");
      assert.match(refusal, expected);
      assert.ok(!refusal.includes("anemone"));
    });
  }

  test("never throws", () => {
    fc.assert(fc.property(fc.string(), (text) => void parseResponse(text)));
    fc.assert(fc.property(fc.json(), (text) => void parseResponse(text)));
  });
});
