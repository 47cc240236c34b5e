import { LineCounter, parseAllDocuments, type Document } from "yaml";

import { isJsonObject, type JsonObject } from "#json/json.ts";

/** A file larger than this is no list of Mirrors. */
export const maxFileBytes = 1 << 20;

/** A document of a YAML file. */
export interface YamlDocument {
  readonly value: JsonObject;
  /** The line on which a field stands, or the nearest that holds it. */
  lineOf(path: string): number;
}

/** What is no YAML, and where. */
export interface SyntaxProblem {
  readonly line: number;
  readonly message: string;
}

/** Parses the documents of a YAML (or JSON) file. Empty ones are left out. */
export function parseDocuments(text: string): {
  documents: YamlDocument[];
  problems: SyntaxProblem[];
} {
  const lines = new LineCounter();
  const parsed = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false });
  const documents: YamlDocument[] = [];
  const problems: SyntaxProblem[] = [];
  for (const document of Array.isArray(parsed) ? parsed : []) {
    const lineAt = (offset: number): number => Math.max(1, lines.linePos(offset).line);
    if (document.errors.length > 0) {
      for (const { pos, message } of document.errors) {
        problems.push({ line: lineAt(pos[0]), message: oneLine(message) });
      }
      continue;
    }
    const value = readValue(document);
    const line = lineAt(document.contents?.range?.[0] ?? document.range[0]);
    if (value === null || value === undefined) continue;
    if (!isJsonObject(value)) problems.push({ line, message: "must be an object with fields" });
    else documents.push({ value, lineOf: (path) => lineOf(document, path, lineAt) });
  }
  return { documents, problems };
}

/** @returns no object if its aliases repeat too much. */
function readValue(document: Document): unknown {
  try {
    const value: unknown = document.toJS({ maxAliasCount: 100 });
    return value;
  } catch (error) {
    if (!(error instanceof ReferenceError)) throw error;
    return [];
  }
}

function oneLine(message: string): string {
  return message.split("\n")[0] ?? "";
}

function lineOf(document: Document, path: string, lineAt: (offset: number) => number): number {
  const keys = path
    .split(/[.[\]]+/)
    .filter(Boolean)
    .map((key) => (/^\d+$/.test(key) ? Number(key) : key));
  for (let length = keys.length; length >= 0; length--) {
    const node: unknown =
      length === 0 ? document.contents : document.getIn(keys.slice(0, length), true);
    const offset = offsetOf(node);
    if (offset !== undefined) return lineAt(offset);
  }
  return 1;
}

function offsetOf(node: unknown): number | undefined {
  if (typeof node !== "object" || node === null || !("range" in node)) return undefined;
  const { range } = node;
  const [offset]: unknown[] = Array.isArray(range) ? range : [];
  return typeof offset === "number" ? offset : undefined;
}
