import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { requireObject } from "#kube/shape.ts";
import { formatReview, letIn, parseReview, type Answer } from "./review.ts";

const request = {
  uid: "u-1",
  operation: "CREATE",
  namespace: "team",
  name: "web",
  kind: { group: "", version: "v1", kind: "Pod" },
  userInfo: { username: "ann", groups: ["a", 1, "b"] },
};

function parsed(change: object = {}): ReturnType<typeof parseReview> {
  const apiVersion = "admission.k8s.io/v1";
  return parseReview({ apiVersion, kind: "AdmissionReview", request: { ...request, ...change } });
}

function answered(answer: Partial<Answer>): Readonly<Record<string, unknown>> {
  const review: unknown = JSON.parse(formatReview(parsed(), { ...letIn, ...answer }));
  return requireObject(requireObject(review, "review")["response"], "response");
}

describe("parseReview()", () => {
  test("reads who asks, and for which namespace", () => {
    const { namespace, user, groups } = parsed();

    assert.deepEqual(
      { namespace, user, groups },
      { namespace: "team", user: "ann", groups: ["a", "b"] },
    );
  });

  test("takes a request of nobody", () => {
    const { user, groups } = parsed({ userInfo: "ann" });

    assert.deepEqual({ user, groups }, { user: "", groups: [] });
  });
});

describe("formatReview()", () => {
  test("writes a patch in base64, of an object that is let in", () => {
    const patch = [{ op: "add", path: "/spec/nodeName", value: "a" } as const];
    const { patchType, patch: text, allowed } = answered({ patch });

    assert.equal(allowed, true);
    assert.equal(patchType, "JSONPatch");
    assert.deepEqual(JSON.parse(Buffer.from(String(text), "base64").toString()), patch);
    assert.deepEqual(answered({ patch: [] }), { uid: "u-1", allowed: true });
    assert.equal(answered({ patch, refusals: ["no"] })["patch"], undefined);
  });

  test("refuses in sentences, with a bound", () => {
    const refusals = Array.from({ length: 12 }, (_, index) => `no ${index}`);
    const status = requireObject(answered({ refusals })["status"], "status");

    assert.equal(status["code"], 403);
    assert.equal(status["reason"], "Forbidden");
    assert.match(String(status["message"]), /^no 0; no 1; .*; no 9; and 2 more$/);
  });

  test("gives at most ten warnings of 256 characters, and says that there are more", () => {
    const warnings = Array.from({ length: 12 }, () => "x".repeat(300));
    const { warnings: shown } = answered({ warnings });

    assert.ok(Array.isArray(shown));
    assert.equal(shown.length, 10);
    assert.equal(String(shown[0]).length, 256);
    assert.equal(shown[9], "and 3 more warnings");
  });

  test("gives the audit log what it is to keep, with a bound", () => {
    const audit = Object.fromEntries(
      Array.from({ length: 12 }, (_, index) => [`key-${index}`, "x".repeat(2_000)]),
    );
    const { auditAnnotations } = answered({ audit });
    const values = Object.values(requireObject(auditAnnotations, "auditAnnotations"));

    assert.equal(values.length, 10);
    assert.equal(String(values[0]).length, 1_024);
    assert.equal(answered({ audit: {} })["auditAnnotations"], undefined);
  });
});
