import { globSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";

import { root } from "./generated.ts";
import { formatGraph, readImports } from "./imports.ts";

// Fails on an import that the layers forbid, and if the graph in ARCHITECTURE.md is not current.
// --write updates the graph there, --print prints it.
const page = `${root}ARCHITECTURE.md`;
const marked = /(<!-- imports -->\n)[^]*(<!-- \/imports -->)/;

const paths = globSync("{src,sandbox,test,bench,tools}/**/*.{ts,mjs}", {
  cwd: root,
  exclude: ["src/cri/gen/**"], // Written by a generator that has its own idea of paths.
});
const files = await Promise.all(
  paths.sort().map(async (path) => ({ path, text: await readFile(root + path, "utf8") })),
);
const { edges, offences } = readImports(files);
const graph = formatGraph(edges);
const text = await readFile(page, "utf8").catch(() => "");
const current = text.replace(marked, `$1\n${graph}\n\n$2`);

if (process.argv.includes("--print")) console.log(graph);
if (!marked.test(text)) {
  offences.push("ARCHITECTURE.md: must have <!-- imports --> and <!-- /imports -->");
} else if (current !== text && process.argv.includes("--write")) {
  await writeFile(page, current);
} else if (current !== text) {
  offences.push('ARCHITECTURE.md: the graph of imports is not current: run "npm run fix"');
}
for (const offence of offences) console.error(offence);
process.exitCode = offences.length > 0 ? 1 : 0;
