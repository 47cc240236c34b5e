/**
 * The folders with code, lowest first. A folder may import itself and any layer below its own;
 * those of one layer do not know each other. What stands after `cmd` is not part of the product.
 */
export const layers: readonly (readonly string[])[] = [
  ["async", "json", "telemetry"],
  ["oci"],
  ["config", "lifecycle", "http", "kube", "cri", "remote", "layout"],
  ["secrets"],
  ["api"],
  ["agent", "controller", "admission", "mirror"],
  ["cli"],
  ["cmd"],
  ["sandbox"],
  ["test"],
  ["bench", "tools"],
];

const height = new Map(layers.flatMap((names, layer) => names.map((name) => [name, layer])));

/** A file and its text. The path is relative to the repository's root. */
export interface SourceFile {
  path: string;
  text: string;
}

/** What a set of files imports. */
export interface Imports {
  /** Which folder imports which, as lines of a Mermaid graph, in order. */
  edges: string[];
  /** Each import that the layers forbid, as a sentence. */
  offences: string[];
}

/**
 * Reads the imports of files by their specifiers: `./x.ts` stays in a folder, `#folder/x.ts` goes
 * across, and `../` is refused everywhere. Unit tests may reach up, for builders and fakes.
 */
export function readImports(files: readonly SourceFile[]): Imports {
  const edges = new Set<string>();
  const offences: string[] = [];
  for (const { path, text } of files) {
    const importer = folderOf(path);
    const isTest = path.endsWith(".test.ts");
    for (const specifier of specifiersOf(text)) {
      if (/^(\.\.|\.\/.*\/\.\.)\//.test(specifier)) {
        offences.push(`${path}: "${specifier}" must be written from "#"`);
      }
      const importee = /^#([^/]+)\//.exec(specifier)?.[1];
      if (importee === undefined || importee === importer || isTest) continue;
      edges.add(`  ${importer} --> ${importee}`);
      const isBelow = (height.get(importee) ?? Infinity) < (height.get(importer) ?? -1);
      if (!isBelow) offences.push(`${path}: ${importer}/ may not import ${importee}/`);
    }
  }
  return { edges: [...edges].sort(), offences };
}

/** Formats the graph for a Markdown page. */
export function formatGraph(edges: readonly string[]): string {
  return ["```mermaid", "graph TD", ...edges, "```"].join("\n");
}

function folderOf(path: string): string {
  const [top = "", below = ""] = path.split("/");
  return top === "src" ? below : top;
}

/** The specifiers of static imports, re-exports and dynamic imports of a constant. */
function specifiersOf(text: string): string[] {
  const pattern = /(?:^|[;}\s])(?:from\s*|import\s*\(?\s*)"([^"\n]+)"/g;
  return [...text.matchAll(pattern)].flatMap(([, specifier]) => specifier ?? []);
}
