import * as z from "zod/mini";

import { defaultTemplate } from "#api/v1/destination.ts";
import { apiGroup, apiVersion } from "#api/v1/group.ts";
import { mirrorProblems } from "#api/v1/mirror-problems.ts";
import { mirrorKind, type MirrorSpec } from "#api/v1/mirror.ts";
import { mirroredRepositorySchema } from "#api/v1/repository.ts";
import { isJsonObject, textOf } from "#json/json.ts";
import { parseDocuments, type YamlDocument } from "./documents.ts";
import { checkForm, formatValue, type Form, type Problem } from "./form.ts";
import { InvalidPlaceError, isLayoutName, parseLayoutName } from "./place.ts";

/** A file that was asked for. */
export interface InputFile {
  /** As it was asked for, or `stdin`. */
  readonly name: string;
  readonly text: string;
}

/** A Mirror of a file. Its registry and the names of its repositories may also be OCI layouts. */
export interface FileMirror {
  readonly name: string;
  readonly namespace: string | undefined;
  readonly spec: MirrorSpec;
  /** Says in which line of which file a problem is. */
  locate(problem: Problem): LocatedProblem;
}

/** Something that keeps a file from being used. */
export interface LocatedProblem extends Problem {
  readonly file: string;
  /** Not there if the file cannot be read. */
  readonly line?: number;
  /** Of which Mirror; empty if of none. */
  readonly mirror: string;
}

const path = z.string().check(z.minLength(1), z.maxLength(4_096));

/** What a Mirror may be in a file. In a cluster there are no layouts. */
const fileSpecSchema = z.safeExtend(mirrorKind.schema.shape.spec, {
  registry: path,
  repositories: z._default(
    z.array(z.safeExtend(mirroredRepositorySchema, { name: path })).check(z.maxLength(64)),
    [],
  ),
});

const fileSpecForm = z.toJSONSchema(fileSpecSchema, { target: "openapi-3.0", io: "input" });

const expected = {
  tags: 'must be a tag: 1 to 128 letters, digits, "_", "." and "-", not beginning with "." or "-"',
  digests: 'must be "sha256:" and 64, or "sha512:" and 128, lower-case hexadecimal digits',
  platforms: 'must be a platform like "linux/amd64" or "linux/arm64/v8"',
  interval: 'must be hours, minutes and seconds like "30m" or "1h30m"',
  gracePeriod: 'must be hours, minutes and seconds like "24h" or "1h30m"',
};

/** Reads the Mirrors of files, and all that is wrong with any of them. Other kinds are left out, with a note. */
export function parseMirrorFiles(files: readonly InputFile[]): {
  mirrors: FileMirror[];
  problems: LocatedProblem[];
  notes: string[];
} {
  const mirrors: FileMirror[] = [];
  const problems: LocatedProblem[] = [];
  const notes: string[] = [];
  const places = new Map<string, string>();
  for (const { name: file, text } of files) {
    const { documents, problems: faults } = parseDocuments(text);
    const none = { file, path: "", value: "", mirror: "" };
    problems.push(...faults.map((fault) => ({ ...none, ...fault })));
    if (documents.length + faults.length === 0) {
      problems.push({ ...none, line: 1, message: "must hold a Mirror, and is empty" });
    }
    for (const document of documents) {
      const place = `${file}:${document.lineOf("")}`;
      const kind = textOf(document.value["kind"]);
      if (kind === "") {
        const message = `must be there: "Mirror", with apiVersion "${apiGroup}/${apiVersion}"`;
        problems.push({ ...none, line: document.lineOf("kind"), path: "kind", message });
      } else if (!isMirror(document)) {
        notes.push(`${place}: ${JSON.stringify(kind)} is left out: only Mirrors are copied`);
      } else {
        const read = readMirror(file, document, places);
        problems.push(...read.problems);
        if (read.mirror) mirrors.push(read.mirror);
      }
    }
  }
  return { mirrors, problems, notes };
}

/** Whether a document is meant to be one: a wrong version is a slip, another group another thing. */
function isMirror({ value }: YamlDocument): boolean {
  const group = textOf(value["apiVersion"]).split("/")[0];
  return value["kind"] === mirrorKind.kind && (group === apiGroup || group === "");
}

/** @param places - where Mirrors have been met, by namespace and name. */
function readMirror(
  file: string,
  document: YamlDocument,
  places: Map<string, string>,
): { mirror?: FileMirror; problems: LocatedProblem[] } {
  const { value } = document;
  const metadata = isJsonObject(value["metadata"]) ? value["metadata"] : {};
  const name = textOf(metadata["name"]);
  const namespace = textOf(metadata["namespace"]) || undefined;
  const locate = (problem: Problem): LocatedProblem => ({
    ...problem,
    file,
    line: document.lineOf(problem.path),
    mirror: name,
  });
  const key = `${namespace ?? ""}/${name}`;
  const before = places.get(key);
  places.set(key, before ?? `${file}:${document.lineOf("")}`);

  const form = checkForm(fileSpecForm, value["spec"] ?? {}, "spec", expected);
  const parsed = fileSpecSchema.safeParse(form.usable);
  const problems = [
    ...headProblems(document, name),
    ...(before === undefined ? [] : [repeatedName(name, before)]),
    ...form.problems,
    ...(parsed.success ? rulesFor(parsed.data, form) : []),
  ].map(locate);
  if (parsed.success && problems.length === 0) {
    return { mirror: { name, namespace, spec: parsed.data, locate }, problems };
  }
  const isTold = problems.length > 0;
  const message = "must be what docs/reference/kinds.md says";
  return { problems: isTold ? problems : [locate({ path: "spec", value: "", message })] };
}

function repeatedName(name: string, before: string): Problem {
  return {
    path: "metadata.name",
    value: name,
    message: `must not be there again, as in ${before}`,
  };
}

function headProblems({ value }: YamlDocument, name: string): Problem[] {
  const problems: Problem[] = [];
  const version = `${apiGroup}/${apiVersion}`;
  if (value["apiVersion"] !== version) {
    const written = formatValue(value["apiVersion"]);
    problems.push({ path: "apiVersion", value: written, message: `must be "${version}"` });
  }
  if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(name)) {
    const message = 'must be a name of lower-case letters, digits, "-" and "."';
    problems.push({ path: "metadata.name", value: name, message });
  }
  for (const field of Object.keys(value)) {
    if (["apiVersion", "kind", "metadata", "spec", "status"].includes(field)) continue;
    const message = "must be a field that there is: apiVersion, kind, metadata, spec";
    problems.push({ path: field, value: formatValue(value[field]), message });
  }
  return problems;
}

/** What the cluster's rules say of what is left, without what only follows from problems that are told. */
function rulesFor(spec: MirrorSpec, { problems }: Form): Problem[] {
  const found = [...mirrorProblems({ spec }, { isForeign: isLayoutName }), ...layoutProblems(spec)];
  // Whether a filter may be there depends on another field.
  const told = problems.flatMap(({ path: place }) => [
    place,
    place.replace(/\.listSelection$/, ".filter"),
  ]);
  return found.filter(
    ({ path: place }) => !told.some((other) => isWithin(place, other) || isWithin(other, place)),
  );
}

function isWithin(place: string, other: string): boolean {
  return place === other || place.startsWith(`${other}.`) || place.startsWith(`${other}[`);
}

function layoutProblems({ registry, repositories, destination }: MirrorSpec): Problem[] {
  const problems: Problem[] = [];
  const check = (place: string, value: string): ReturnType<typeof parseLayoutName> | undefined => {
    try {
      return parseLayoutName(value);
    } catch (error) {
      if (!(error instanceof InvalidPlaceError)) throw error;
      problems.push({ path: place, value, message: error.reason });
      return undefined;
    }
  };
  if (isLayoutName(registry)) {
    const layout = check("spec.registry", registry);
    if (layout?.repository) {
      const message = 'must be "oci:" and a folder: names in it are those of the sources';
      problems.push({ path: "spec.registry", value: registry, message });
    }
    if (destination !== defaultTemplate) {
      const message = "must be left out: in a layout, copies keep the names of their sources";
      problems.push({ path: "spec.destination", value: destination, message });
    }
  }
  for (const [index, { name }] of repositories.entries()) {
    if (isLayoutName(name)) check(`spec.repositories[${index}].name`, name);
  }
  return problems;
}

/** Formats a problem as compilers do, so that editors find the line. */
export function formatProblem(problem: LocatedProblem): string {
  const { file, line, mirror, path: place, value, message } = problem;
  const where = line === undefined ? file : `${file}:${line}`;
  const owner = mirror === "" ? "" : `Mirror "${mirror}": `;
  const what = [place, value === "" ? "" : JSON.stringify(value), message]
    .filter(Boolean)
    .join(" ");
  return `${where}: ${owner}${what}`;
}

/** What of a Mirror cannot be done without a cluster, a sentence each. */
export function mirrorNotes({ name, spec }: FileMirror): string[] {
  const secrets = [
    ...(spec.pushSecret ? ["pushSecret"] : []),
    ...(spec.imagePullSecrets.length > 0 ? ["imagePullSecrets"] : []),
  ];
  const notes: string[] = [];
  if (secrets.length > 0) {
    notes.push(`${secrets.join(" and ")} cannot be read here: your own registry logins are used`);
  }
  if (spec.tls?.caSecret) {
    notes.push("tls.caSecret cannot be read here: give the certificates by --ca-file if need be");
  }
  if (spec.removalPolicy === "Delete")
    notes.push("removalPolicy Delete is left to the cluster: nothing is removed");
  if (spec.suspend) notes.push("it is suspended, and left out");
  return notes.map((note) => `Mirror "${name}": ${note}`);
}
