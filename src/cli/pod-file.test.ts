import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { parsePodFiles } from "./pod-file.ts";

function parse(text: string): {
  pods: (string | undefined)[][];
  problems: string[];
  notes: string[];
} {
  const { pods, problems, notes } = parsePodFiles([{ name: "pod.yaml", text }]);
  return {
    pods: pods.map(({ name, namespace }) => [name, namespace]),
    problems,
    notes,
  };
}

const pod = `apiVersion: v1
kind: Pod
metadata: { name: web, namespace: shop }
spec: { containers: [{ name: web, image: nginx }] }
`;

describe("parsePodFiles()", () => {
  test("reads pods as they stand there, with fields that it does not know", () => {
    const { pods } = parsePodFiles([
      { name: "-", text: pod.replace("spec: {", "spec: { new: 1,") },
    ]);
    assert.deepEqual(
      pods.map(({ object }) => object["spec"]),
      [{ new: 1, containers: [{ name: "web", image: "nginx" }] }],
    );
  });

  test("takes what the API server would make a name and a namespace for", () => {
    const text = pod.replace("name: web, namespace: shop", "generateName: web-");
    assert.deepEqual(parse(text).pods, [["web-", undefined]]);
    assert.deepEqual(parse("{ apiVersion: v1, kind: Pod }").pods, [["", undefined]]);
  });

  test("leaves out other kinds, and says so", () => {
    const { pods, notes } = parse(`${pod}---\napiVersion: v1\nkind: Service\n---\na: 1\n`);
    assert.deepEqual(pods, [["web", "shop"]]);
    assert.deepEqual(notes, [
      'pod.yaml:6: "Service" is left out: only Pods are explained',
      "pod.yaml:9: what has no kind is left out: only Pods are explained",
    ]);
  });

  test("tells what is wrong, with its line", () => {
    assert.deepEqual(parse("").problems, ["pod.yaml:1: must hold a Pod, and is empty"]);
    assert.deepEqual(parse(pod.replace("image: nginx", "image: [1]")).problems, [
      'pod.yaml:4: Malformed object: "spec.containers[0].image" must be a text',
    ]);
    assert.match(parse("a: [").problems[0] ?? "", /^pod\.yaml:\d: /);
  });
});
