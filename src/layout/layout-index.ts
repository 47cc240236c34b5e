import { isJsonObject, parseJson, textOf, type JsonObject } from "#json/json.ts";
import type { Descriptor } from "#oci/content.ts";
import { formatDescriptor, parseDescriptor, mediaTypes } from "#oci/manifest.ts";
import {
  formatReference,
  InvalidReferenceError,
  parseReference,
  tagPattern,
  type Reference,
} from "#oci/reference.ts";

/** The name of an entry: a tag, or a full reference (image-spec, "annotations.md"). */
const refName = "org.opencontainers.image.ref.name";
/** What containerd and BuildKit call an entry: always a full reference. */
const imageName = "io.containerd.image.name";

/** What a layout names. Entries are kept as they are written, whoever wrote them. */
export interface LayoutIndex {
  readonly fields: JsonObject;
  readonly entries: readonly IndexEntry[];
}

export interface IndexEntry {
  readonly written: unknown;
  /** Not there if the entry is no descriptor. */
  readonly descriptor?: Descriptor;
  /** `ref.name`, if there is one. */
  readonly name: string;
  /** The repository and tag that its names say, in full: `ghcr.io/a/b`, `1`. */
  readonly full?: { readonly repository: string; readonly tag: string };
}

/** Parses `index.json`; `undefined` if it is none. */
export function parseLayoutIndex(text: string): LayoutIndex | undefined {
  const fields = parseJson(text);
  if (!isJsonObject(fields)) return undefined;
  const manifests: unknown = fields["manifests"] ?? [];
  if (!Array.isArray(manifests)) return undefined;
  return { fields, entries: manifests.map(parseEntry) };
}

/** The index of a layout without content. */
export const emptyIndex: LayoutIndex = {
  fields: { schemaVersion: 2, mediaType: mediaTypes.ociIndex },
  entries: [],
};

/** Formats `index.json`. The inverse of `parseLayoutIndex`. */
export function formatLayoutIndex({ fields, entries }: LayoutIndex): string {
  return JSON.stringify({ ...fields, manifests: entries.map(({ written }) => written) });
}

function parseEntry(written: unknown): IndexEntry {
  const descriptor = parseDescriptor(written);
  const annotations = isJsonObject(written) ? written["annotations"] : undefined;
  const named = isJsonObject(annotations) ? annotations : {};
  const name = textOf(named[refName]);
  const full =
    parseFull(textOf(named[imageName])) ?? (name.includes("/") ? parseFull(name) : undefined);
  return { written, name, ...(descriptor && { descriptor }), ...(full && { full }) };
}

function parseFull(text: string): IndexEntry["full"] {
  const { tag, registry, path } = tryParse(text) ?? {};
  if (tag === undefined || registry === undefined) return undefined;
  return { repository: `${registry}/${path}`, tag };
}

function tryParse(text: string): Reference | undefined {
  try {
    return parseReference(text);
  } catch (error) {
    if (!(error instanceof InvalidReferenceError)) throw error;
    return undefined;
  }
}

/**
 * The tag that an entry has in a repository; `undefined` if it has none there.
 *
 * @param repository - in full, like `ghcr.io/a/b`. Without one the layout is a single repository, and its
 *   tags are the names that can be tags.
 */
export function tagOf(
  { name, full }: IndexEntry,
  repository: string | undefined,
): string | undefined {
  if (repository === undefined) return tagPattern.test(name) ? name : undefined;
  return full?.repository === repository ? full.tag : undefined;
}

/** Finds what a tag names. Where several entries have it, the last one was written last. */
export function findTag(
  { entries }: LayoutIndex,
  repository: string | undefined,
  tag: string,
): Descriptor | undefined {
  return entries.findLast((entry) => entry.descriptor && tagOf(entry, repository) === tag)
    ?.descriptor;
}

/** Moves a tag, or makes it, unless it names that already. */
export function withTag(
  index: LayoutIndex,
  repository: string | undefined,
  tag: string,
  descriptor: Descriptor,
): LayoutIndex {
  if (findTag(index, repository, tag)?.digest === descriptor.digest) return index;
  const name = repository === undefined ? tag : formatReference({ ...parts(repository), tag });
  const added = parseEntry(formatDescriptor(descriptor, { [refName]: name }));
  const others = index.entries.filter((entry) => tagOf(entry, repository) !== tag);
  return { ...index, entries: [...others, added] };
}

/** Adds content without a name, as that which is found by its subject; unless it is there. */
export function withUnnamed(index: LayoutIndex, descriptor: Descriptor): LayoutIndex {
  const isThere = index.entries.some((entry) => entry.descriptor?.digest === descriptor.digest);
  if (isThere) return index;
  return { ...index, entries: [...index.entries, parseEntry(formatDescriptor(descriptor))] };
}

/** Takes a tag away. */
export function withoutTag(
  index: LayoutIndex,
  repository: string | undefined,
  tag: string,
): LayoutIndex {
  return { ...index, entries: index.entries.filter((entry) => tagOf(entry, repository) !== tag) };
}

/** Takes a digest away, with the tags that name it in a repository. Those of others stay. */
export function withoutDigest(
  index: LayoutIndex,
  repository: string | undefined,
  digest: string,
): LayoutIndex {
  const goes = (entry: IndexEntry): boolean =>
    entry.descriptor?.digest === digest && !isOfOthers(entry, repository);
  return { ...index, entries: index.entries.filter((entry) => !goes(entry)) };
}

/** Whether an entry has a name that is none of a repository's. */
export function isOfOthers(entry: IndexEntry, repository: string | undefined): boolean {
  const isNamed = entry.name !== "" || entry.full !== undefined;
  return isNamed && tagOf(entry, repository) === undefined;
}

/** Lists the repositories that a layout's names tell of, in full, each once, sorted. */
export function repositoriesOf({ entries }: LayoutIndex): string[] {
  return [...new Set(entries.flatMap(({ full }) => (full ? [full.repository] : [])))].sort();
}

function parts(repository: string): Reference {
  const { registry, path } = parseReference(repository);
  return { registry, path };
}
