import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { noFigures, parseAnswer, parseRequest, sumOf } from "./messages.ts";

describe("sumOf()", () => {
  test("adds what two groups did", () => {
    const one = { ...noFigures, reportWrites: 2, complaints: { late: 1 } };
    const other = {
      ...noFigures,
      reportWrites: 3,
      complaints: { late: 2, lost: 1 },
    };

    const sum = sumOf(one, other);

    assert.equal(sum.reportWrites, 5);
    assert.deepEqual(sum.complaints, { late: 3, lost: 1 });
  });

  test("leaves as it is what is added to nothing", () => {
    const figures = { ...noFigures, ready: 1, pulls: 2, planBytes: 3, nodeBytes: 4 };

    assert.deepEqual(sumOf(noFigures, figures), figures);
  });
});

describe("parseRequest() and parseAnswer()", () => {
  test("take what the other side sends", () => {
    const request = { id: 1, command: { kind: "stop", nodes: ["sim-1"] } };

    assert.deepEqual(parseRequest(request), request);
    assert.deepEqual(parseAnswer({ id: 1, figures: noFigures }), { id: 1, figures: noFigures });
  });

  test("refuse anything else", () => {
    assert.throws(() => parseRequest({ id: 1, command: { kind: "dance" } }));
    assert.throws(() => parseAnswer({ figures: noFigures }));
  });
});
