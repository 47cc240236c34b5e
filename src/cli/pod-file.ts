import { isJsonObject, textOf, type JsonObject } from "#json/json.ts";
import { MalformedObjectError } from "#kube/shape.ts";
import { pods } from "#kube/resource.ts";
import { parseDocuments, type YamlDocument } from "./documents.ts";
import type { InputFile } from "./mirror-file.ts";

/** A pod that somebody would make. */
export interface FilePod {
  readonly name: string;
  readonly namespace: string | undefined;
  readonly object: JsonObject;
}

/** Reads the pods of files, and all that is wrong with them. Other kinds are left out, with a note. */
export function parsePodFiles(files: readonly InputFile[]): {
  pods: FilePod[];
  problems: string[];
  notes: string[];
} {
  const found: FilePod[] = [];
  const problems: string[] = [];
  const notes: string[] = [];
  for (const { name: file, text } of files) {
    const { documents, problems: faults } = parseDocuments(text);
    problems.push(...faults.map(({ line, message }) => `${file}:${line}: ${message}`));
    if (documents.length + faults.length === 0) {
      problems.push(`${file}:1: must hold a Pod, and is empty`);
    }
    for (const document of documents) {
      const kind = textOf(document.value["kind"]);
      if (kind !== pods.kind || document.value["apiVersion"] !== pods.version) {
        const shown = kind === "" ? "what has no kind" : JSON.stringify(kind);
        notes.push(`${file}:${document.lineOf("")}: ${shown} is left out: only Pods are explained`);
        continue;
      }
      const read = readPod(document);
      if ("object" in read) found.push(read);
      else problems.push(`${file}:${read.line}: ${read.message}`);
    }
  }
  return { pods: found, problems, notes };
}

/** A name is for the API server to make if there is only the beginning of one. */
function readPod(document: YamlDocument): FilePod | { line: number; message: string } {
  const { value } = document;
  const metadata = isJsonObject(value["metadata"]) ? value["metadata"] : {};
  const name = textOf(metadata["name"]) || textOf(metadata["generateName"]);
  try {
    pods.parse({ ...value, metadata: { ...metadata, name: name || "pod" } });
  } catch (error) {
    if (!(error instanceof MalformedObjectError)) throw error;
    const { field, message } = error;
    return { line: document.lineOf(field), message };
  }
  return { name, namespace: textOf(metadata["namespace"]) || undefined, object: value };
}
