import assert from "node:assert/strict";
import { test } from "node:test";

import { buildSync } from "esbuild";

import { root } from "./generated.ts";

test("what an agent uses of api/ does not bring in the schema library", () => {
  // Its 6 MB would be paid on every node. A value import where a type import would do is enough.
  const names = ["resources", "selector", "labels", "conditions", "references"];
  const { metafile } = buildSync({
    absWorkingDir: root,
    entryPoints: names.map((name) => `src/api/v1/${name}.ts`),
    outdir: "unwritten",
    bundle: true,
    write: false,
    metafile: true,
    platform: "node",
    format: "esm",
  });

  const packages = Object.keys(metafile.inputs).filter((path) => path.startsWith("node_modules/"));
  assert.deepEqual(packages, []);
});
