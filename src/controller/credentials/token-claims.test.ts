import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as fc from "fast-check";

import type { JsonObject } from "#json/json.ts";
import { agentAccount, agentClaims, anAgentToken } from "#test/agent-token.ts";
import { refusalOf } from "./token-claims.ts";

/** What Kubernetes says of the pod, but for these. */
function bound(more: JsonObject): JsonObject {
  const claims = agentClaims()["kubernetes.io"];
  assert.ok(typeof claims === "object");
  return { "kubernetes.io": { ...claims, ...more } };
}

describe("refusalOf()", () => {
  const possible: Record<string, JsonObject> = {
    "an agent's token": {},
    "several audiences": { aud: ["vault", "coral"] },
    "an audience that is no list": { aud: "coral" },
    "an issuer that is no URL": { iss: "kubernetes" },
    "one that ended long ago by our clock": { exp: 1_000_000_000 },
  };
  for (const [what, claims] of Object.entries(possible)) {
    test(`has nothing against ${what}`, () => {
      assert.equal(refusalOf(anAgentToken(claims), agentAccount), undefined);
    });
  }

  const { namespace } = agentAccount;
  const impossible: Record<string, [number, JsonObject]> = {
    "no audience": [401, { aud: undefined }],
    "another audience": [401, { aud: ["https://kubernetes.default.svc"] }],
    "an audience that only begins so": [401, { aud: "coral-x" }],
    "no issuer": [401, { iss: "" }],
    "an issuer that means nothing": [401, { iss: "http://[" }],
    "a long issuer": [401, { iss: "x".repeat(2_000) }],
    "another account": [403, { sub: `system:serviceaccount:${namespace}:default` }],
    "another account by Kubernetes' claims": [403, bound({ serviceaccount: { name: "default" } })],
    "another namespace": [403, bound({ namespace: "team" })],
    "no claims of Kubernetes": [403, { "kubernetes.io": undefined }],
    "claims of Kubernetes that are no object": [403, { "kubernetes.io": [] }],
    "no node": [403, bound({ node: undefined })],
    "a node without a name": [403, bound({ node: { name: "" } })],
    "a node that is a text": [403, bound({ node: "node1" })],
  };
  for (const [what, [status, claims]] of Object.entries(impossible)) {
    test(`refuses ${what} with ${status}`, () => {
      assert.equal(refusalOf(anAgentToken(claims), agentAccount)?.status, status);
    });
  }

  const [header = "", payload = ""] = anAgentToken().split(".");
  const malformed: Record<string, string> = {
    nothing: "",
    "a text": "hello",
    "two parts": `${header}.${payload}`,
    "four parts": `${header}.${payload}.x.y`,
    "an empty signature": `${header}.${payload}.`,
    "a payload that is no JSON": `${header}.eA.x`,
    "a payload that is a list": `${header}.W10.x`,
    "a header that is no JSON": `eA.${payload}.x`,
    "other characters than base64url has": `${header}.${payload}.a+b/`,
  };
  for (const [what, token] of Object.entries(malformed)) {
    test(`refuses ${what}`, () => {
      assert.equal(refusalOf(token, agentAccount)?.status, 401);
    });
  }

  test("refuses any other claims, whatever they are", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (claims) => {
        const encoded = Buffer.from(JSON.stringify(claims)).toString("base64url");
        assert.equal(refusalOf(`${header}.${encoded}.x`, agentAccount)?.status, 401);
      }),
    );
  });
});
