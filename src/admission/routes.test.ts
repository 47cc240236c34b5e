import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { router } from "#http/router.ts";
import { serve } from "#http/serve.ts";
import { isJsonObject } from "#json/json.ts";
import { silentLog } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";
import { anImage } from "#test/kinds.ts";
import { aMirror } from "#test/mirrors.ts";
import { maxReviewBytes } from "./review-entry.ts";
import { admissionRoutes } from "./routes.ts";

const bad = anImage({ repositories: [{ name: "debian", tags: ["?"], listSelection: "listed" }] });

interface Sent {
  operation?: string;
  object?: unknown;
  oldObject?: unknown;
  subResource?: string;
  kind?: string;
}

function review({ operation = "CREATE", kind = "Image", ...request }: Sent): unknown {
  return {
    apiVersion: "admission.k8s.io/v1",
    kind: "AdmissionReview",
    request: {
      uid: "u-1",
      kind: { group: "stvz.io", version: "v1", kind },
      operation,
      name: "tools",
      ...request,
    },
  };
}

async function send(
  body: unknown,
  metrics = new Registry(),
  path = "images",
): Promise<[number, unknown]> {
  const routes = router(admissionRoutes({ log: silentLog, metrics }), silentLog);
  const options = { port: 0, host: "127.0.0.1", maxBodyBytes: maxReviewBytes };
  await using serving = await serve(routes, options);
  const response = await fetch(`http://127.0.0.1:${serving.port}/validate/${path}?timeout=5s`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  return [response.status, response.ok ? (JSON.parse(text) as unknown) : text];
}

async function answerTo(sent: Sent, path?: string): Promise<unknown> {
  const [status, body] = await send(review(sent), new Registry(), path);
  assert.equal(status, 200);
  assert.ok(isJsonObject(body));
  assert.equal(body["apiVersion"], "admission.k8s.io/v1");
  return body["response"];
}

describe("POST /validate/images", () => {
  test("lets an Image in that is in order", async () => {
    assert.deepEqual(await answerTo({ object: anImage() }), { uid: "u-1", allowed: true });
  });

  test("refuses one with a Status that kubectl shows line by line", async () => {
    assert.deepEqual(await answerTo({ object: bad }), {
      uid: "u-1",
      allowed: false,
      status: {
        status: "Failure",
        code: 422,
        reason: "Invalid",
        message:
          'spec.repositories[0].tags[0]: Invalid value: "?": must have a tag of 1 to 128 letters, digits, "_", "." and "-", not beginning with "." or "-"',
        details: {
          group: "stvz.io",
          kind: "Image",
          name: "tools",
          causes: [
            {
              reason: "FieldValueInvalid",
              field: "spec.repositories[0].tags[0]",
              message:
                'Invalid value: "?": must have a tag of 1 to 128 letters, digits, "_", "." and "-", not beginning with "." or "-"',
            },
          ],
        },
      },
    });
  });

  test("warns and lets in", async () => {
    const object = anImage({
      repositories: [{ name: "debian", tags: ["latest"], listSelection: "listed" }],
    });
    const answer = await answerTo({ object });

    assert.ok(isJsonObject(answer) && answer["allowed"] === true);
    assert.match(String(answer["warnings"]), /"debian:latest" is moved by its owner/);
  });

  const passing: Record<string, Sent> = {
    "an update of an Image that had the same fault": {
      operation: "UPDATE",
      object: bad,
      oldObject: bad,
    },
    "a deletion": { operation: "DELETE", oldObject: bad },
    "a status": { operation: "UPDATE", subResource: "status", object: bad, oldObject: anImage() },
    "another kind": { kind: "NodeReport", object: bad },
    "another operation": { operation: "CONNECT", object: bad },
  };
  for (const [what, sent] of Object.entries(passing)) {
    test(`lets ${what} pass`, async () => {
      assert.deepEqual(await answerTo(sent), { uid: "u-1", allowed: true });
    });
  }

  const refused: Record<string, Sent> = {
    "an update that brings a fault": { operation: "UPDATE", object: bad, oldObject: anImage() },
    "an update of what cannot be read": { operation: "UPDATE", object: bad, oldObject: { a: 1 } },
    "an object that is no Image": { object: { metadata: { name: "a" }, spec: { selector: 1 } } },
    "no object": {},
  };
  for (const [what, sent] of Object.entries(refused)) {
    test(`refuses ${what}`, async () => {
      const answer = await answerTo(sent);

      assert.ok(isJsonObject(answer) && answer["allowed"] === false);
    });
  }

  const malformed: Record<string, [body: unknown, message: RegExp]> = {
    "what is no review": [[], /"AdmissionReview" must be an object/],
    "a version it does not know": [{ apiVersion: "admission.k8s.io/v1beta1" }, /"apiVersion" must/],
    "a review without a request": [{ apiVersion: "admission.k8s.io/v1" }, /"request" must/],
  };
  for (const [what, [body, message]] of Object.entries(malformed)) {
    test(`answers ${what} with 400`, async () => {
      const [status, text] = await send(body);

      assert.equal(status, 400);
      assert.match(String(text), message);
    });
  }

  test("shows a hundred faults of many, and cuts long values", async () => {
    const tags = Array.from({ length: 150 }, (_, index) => `?${"x".repeat(200)}${index}`);
    const object = anImage({ repositories: [{ name: "debian", tags, listSelection: "listed" }] });
    const answer = await answerTo({ object });
    const text = JSON.stringify(answer);

    assert.equal(text.match(/"FieldValueInvalid"/g)?.length, 100);
    assert.match(text, /and 50 more\]/);
    assert.doesNotMatch(text, /x{150}/);
  });

  test("is measured", async () => {
    const metrics = new Registry();
    await send(review({ object: bad }), metrics);

    assert.match(
      metrics.render(),
      /coral_admission_duration_seconds_count\{webhook="images",result="refused"\} 1/,
    );
  });
});

describe("POST /validate/mirrors", () => {
  const bad = aMirror({ interval: "1s" });
  const ask = async (sent: Sent): Promise<unknown> =>
    answerTo({ kind: "Mirror", ...sent }, "mirrors");

  test("lets a Mirror in that is in order", async () => {
    assert.deepEqual(await ask({ object: aMirror() }), { uid: "u-1", allowed: true });
  });

  test("refuses one that is not", async () => {
    const answer = await ask({ object: bad });

    assert.ok(isJsonObject(answer) && answer["allowed"] === false);
    assert.match(JSON.stringify(answer["status"]), /spec\.interval: Invalid value: .*1s/);
  });

  test("warns and lets in", async () => {
    const answer = await ask({ object: aMirror({ platforms: ["linux/amd64"] }) });

    assert.ok(isJsonObject(answer) && answer["allowed"] === true);
    assert.match(String(answer["warnings"]), /^spec\.platforms: /);
  });

  const passing: Record<string, Sent> = {
    "an update that leaves a fault as it was": {
      operation: "UPDATE",
      object: { ...bad, metadata: { ...bad.metadata, labels: { a: "b" } } },
      oldObject: bad,
    },
    "a deletion": { operation: "DELETE", oldObject: bad },
    "a status": { operation: "UPDATE", subResource: "status", object: bad, oldObject: aMirror() },
    "another kind": { kind: "Image", object: bad },
  };
  for (const [what, sent] of Object.entries(passing)) {
    test(`lets ${what} pass`, async () => {
      assert.deepEqual(await ask(sent), { uid: "u-1", allowed: true });
    });
  }

  test("is measured apart", async () => {
    const metrics = new Registry();
    await send(review({ kind: "Mirror", object: bad }), metrics, "mirrors");

    assert.match(
      metrics.render(),
      /coral_admission_duration_seconds_count\{webhook="mirrors",result="refused"\} 1/,
    );
  });
});
