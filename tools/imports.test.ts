import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { formatGraph, readImports } from "./imports.ts";

describe("readImports()", () => {
  test("draws an edge for each pair of folders, once and in order", () => {
    const { edges, offences } = readImports([
      { path: "src/cmd/agent.ts", text: 'import { a } from "#kube/a.ts";\nimport "#agent/b.ts";' },
      { path: "src/cmd/main.ts", text: 'const { c } = await import("#kube/c.ts");' },
      {
        path: "src/kube/a.ts",
        text: 'export type {\n  X,\n} from "#async/x.ts";\nimport "./y.ts";',
      },
    ]);

    assert.deepEqual(offences, []);
    assert.equal(
      formatGraph(edges),
      "```mermaid\ngraph TD\n  cmd --> agent\n  cmd --> kube\n  kube --> async\n```",
    );
  });

  const forbidden: Record<string, [path: string, text: string]> = {
    "oci/ may not import kube/": ["src/oci/a.ts", 'import { a } from "#kube/a.ts";'],
    "kube/ may not import cri/": ["src/kube/a.ts", 'import { a } from "#cri/a.ts";'],
    "kube/ may not import secrets/": ["src/kube/a.ts", 'import "#secrets/a.ts";'],
    "secrets/ may not import api/": ["src/secrets/a.ts", 'import "#api/a.ts";'],
    "agent/ may not import controller/": ["src/agent/a.ts", 'import "#controller/a.ts";'],
    "cmd/ may not import sandbox/": ["src/cmd/a.ts", 'await import("#sandbox/a.ts");'],
    "cmd/ may not import test/": ["src/cmd/a.ts", 'export * from "#test/a.ts";'],
    "novel/ may not import oci/": ["src/novel/a.ts", 'import "#oci/a.ts";'],
    "oci/ may not import novel/": ["src/oci/a.ts", 'import "#novel/a.ts";'],
    '"../a.ts" must be written from "#"': ["sandbox/demo/b.ts", 'import "../a.ts";'],
    '"../b.ts" must be written from "#"': ["src/oci/a.test.ts", 'import "../b.ts";'],
  };
  for (const [offence, [path, text]] of Object.entries(forbidden)) {
    test(`says that ${offence}`, () => {
      assert.deepEqual(readImports([{ path, text }]).offences, [`${path}: ${offence}`]);
    });
  }

  test("lets unit tests use builders and fakes, which are above what they test", () => {
    const files = [{ path: "src/oci/a.test.ts", text: 'import { a } from "#test/a.ts";' }];

    assert.deepEqual(readImports(files), { edges: [], offences: [] });
  });
});
