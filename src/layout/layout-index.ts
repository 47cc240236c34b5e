import { countBrackets, isJsonObject, parseJson, textOf, type JsonObject } from "#json/json.ts";
import type { Descriptor } from "#oci/content.ts";
import { formatDescriptor, mediaTypes, parseDescriptor } from "#oci/manifest.ts";
import {
  formatReference,
  InvalidReferenceError,
  parseReference,
  tagPattern,
  type Reference,
} from "#oci/reference.ts";

/** Room for some 39,000 names of usual length. The file is read as a whole. */
export const maxIndexBytes = 8 * 1_024 * 1_024;

/** Objects and lists in it: more than names of usual length have, so that it is the bytes that end it. */
const maxBrackets = 120_000;

/** The name of an entry: a tag, or a full reference (image-spec, "annotations.md"). */
const refName = "org.opencontainers.image.ref.name";
/** What containerd and BuildKit call an entry: always a full reference. */
const imageName = "io.containerd.image.name";

export interface IndexEntry {
  /** As it is kept, whoever wrote it. */
  readonly json: string;
  /** Not there if the entry is no descriptor. */
  readonly descriptor?: Descriptor;
  /** `ref.name`, if there is one. */
  readonly name: string;
  /** The repository and tag that its names say, in full: `ghcr.io/a/b`, `1`. */
  readonly full?: { readonly repository: string; readonly tag: string };
}

/**
 * What a layout names, `index.json`: its entries in order, and where to find them.
 *
 * A repository is given in full, like `ghcr.io/a/b`. Without one the layout is a single repository, and its
 * tags are the names that can be tags.
 */
export class LayoutIndex {
  readonly #fields: JsonObject;
  readonly #entries: Set<IndexEntry>;
  /** By each name that an entry has. The lists are never changed, so that copies may have them, too. */
  readonly #byName: Groups;
  readonly #byDigest: Groups;
  #isChanged = false;

  private constructor(
    fields: JsonObject,
    entries: Iterable<IndexEntry>,
    byName: Groups,
    byDigest: Groups,
  ) {
    this.#fields = fields;
    this.#entries = new Set(entries);
    this.#byName = new Map(byName);
    this.#byDigest = new Map(byDigest);
  }

  /** The index of a layout without content. */
  static empty(): LayoutIndex {
    const fields = { schemaVersion: 2, mediaType: mediaTypes.ociIndex };
    return new LayoutIndex(fields, [], new Map(), new Map());
  }

  /** Parses `index.json`; `undefined` if it is none. */
  static parse(text: string): LayoutIndex | undefined {
    const value = parseJson(text, maxBrackets);
    if (!isJsonObject(value)) return undefined;
    const { manifests = [], ...fields } = value;
    if (!Array.isArray(manifests)) return undefined;
    const entries = manifests.map(parseEntry);
    return new LayoutIndex(fields, entries, group(entries, namesOf), group(entries, digestsOf));
  }

  /** Formats `index.json`; `undefined` if it has become more than is read. The inverse of `parse`. */
  format(): string | undefined {
    const entries = Array.from(this.#entries, ({ json }) => json).join(",");
    const text = JSON.stringify({ ...this.#fields, manifests: [] }).replace(
      /\]\}$/,
      () => `${entries}]}`,
    );
    const isReadable = Buffer.byteLength(text) <= maxIndexBytes;
    return isReadable && countBrackets(text) <= maxBrackets ? text : undefined;
  }

  /** An index to change, while others go on to read this one. */
  copy(): LayoutIndex {
    return new LayoutIndex(this.#fields, this.#entries, this.#byName, this.#byDigest);
  }

  /** Whether it is another one than it was copied from. */
  get isChanged(): boolean {
    return this.#isChanged;
  }

  /** Each manifest that an entry names, once. */
  *manifests(): Generator<Descriptor> {
    for (const [entry] of this.#byDigest.values()) if (entry?.descriptor) yield entry.descriptor;
  }

  /** Finds what a tag names. Where several entries have it, the last one was written last. */
  find(repository: string | undefined, tag: string): Descriptor | undefined {
    const entries = this.#byName.get(nameOf(repository, tag)) ?? [];
    return entries.findLast(({ descriptor }) => descriptor)?.descriptor;
  }

  /** Lists the tags of a repository, each once. */
  tags(repository: string | undefined): string[] {
    const tags = Array.from(this.#entries, (entry) => tagOf(entry, repository));
    return [...new Set(tags.filter((tag) => tag !== undefined))];
  }

  /** Lists the repositories that the names tell of, in full, each once, sorted. */
  repositories(): string[] {
    const names = Array.from(this.#entries, ({ full }) => full?.repository);
    return [...new Set(names.filter((name) => name !== undefined))].sort();
  }

  /** Lists what has a name that is none of a repository's. */
  ofOthers(repository: string | undefined): Descriptor[] {
    const others = [...this.#entries].filter((entry) => isOfOthers(entry, repository));
    return others.flatMap(({ descriptor }) => (descriptor ? [descriptor] : []));
  }

  /** Moves a tag, or makes it, unless it names that already. */
  setTag(repository: string | undefined, tag: string, descriptor: Descriptor): void {
    if (this.find(repository, tag)?.digest === descriptor.digest) return;
    this.removeTag(repository, tag);
    const name = repository === undefined ? tag : formatReference({ ...parts(repository), tag });
    this.#add(parseEntry(formatDescriptor(descriptor, { [refName]: name })));
  }

  /** Takes a tag away. */
  removeTag(repository: string | undefined, tag: string): void {
    for (const entry of this.#byName.get(nameOf(repository, tag)) ?? []) this.#remove(entry);
  }

  /** Adds content without a name, unless it is there without one. */
  addUnnamed(descriptor: Descriptor): void {
    if (this.#byDigest.get(descriptor.digest)?.some(isUnnamed)) return;
    this.#add(parseEntry(formatDescriptor(descriptor)));
  }

  /** Whether there is content without a name, as `addUnnamed` adds it. */
  hasUnnamed(digest: string): boolean {
    return this.#byDigest.get(digest)?.some(isAddedUnnamed) === true;
  }

  /** Takes back what `addUnnamed` added, because something else that is there names it. */
  removeUnnamed(digest: string): void {
    for (const entry of this.#byDigest.get(digest) ?? []) {
      if (isAddedUnnamed(entry)) this.#remove(entry);
    }
  }

  /** Takes a digest away, with the tags that name it in a repository. Those of others stay. */
  removeDigest(repository: string | undefined, digest: string): void {
    for (const entry of this.#byDigest.get(digest) ?? []) {
      if (!isOfOthers(entry, repository)) this.#remove(entry);
    }
  }

  #add(entry: IndexEntry): void {
    this.#isChanged = true;
    this.#entries.add(entry);
    for (const name of namesOf(entry)) addTo(this.#byName, name, entry);
    for (const digest of digestsOf(entry)) addTo(this.#byDigest, digest, entry);
  }

  #remove(entry: IndexEntry): void {
    this.#isChanged = true;
    this.#entries.delete(entry);
    for (const name of namesOf(entry)) removeFrom(this.#byName, name, entry);
    for (const digest of digestsOf(entry)) removeFrom(this.#byDigest, digest, entry);
  }
}

type Groups = Map<string, readonly IndexEntry[]>;

function group(entries: readonly IndexEntry[], keysOf: (entry: IndexEntry) => string[]): Groups {
  const groups = new Map<string, IndexEntry[]>();
  for (const entry of entries) {
    for (const key of keysOf(entry)) {
      const found = groups.get(key);
      if (found) found.push(entry);
      else groups.set(key, [entry]);
    }
  }
  return groups;
}

function addTo(groups: Groups, key: string, entry: IndexEntry): void {
  groups.set(key, [...(groups.get(key) ?? []), entry]);
}

function removeFrom(groups: Groups, key: string, entry: IndexEntry): void {
  const left = (groups.get(key) ?? []).filter((other) => other !== entry);
  if (left.length > 0) groups.set(key, left);
  else groups.delete(key);
}

function parseEntry(written: unknown): IndexEntry {
  const json = JSON.stringify(written);
  const descriptor = parseDescriptor(written);
  const annotations = isJsonObject(written) ? written["annotations"] : undefined;
  const named = isJsonObject(annotations) ? annotations : {};
  const name = textOf(named[refName]);
  const full = parseFull(textOf(named[imageName])) ?? parseFull(name);
  return { json, name, ...(descriptor && { descriptor }), ...(full && { full }) };
}

function parseFull(text: string): IndexEntry["full"] {
  if (!text.includes("/")) return undefined;
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

/** The names by which an entry is looked for: a tag, or one in full, which has a slash. */
function namesOf({ name, full }: IndexEntry): string[] {
  const tag = tagPattern.test(name) ? [nameOf(undefined, name)] : [];
  return full ? [...tag, nameOf(full.repository, full.tag)] : tag;
}

function digestsOf({ descriptor }: IndexEntry): string[] {
  return descriptor ? [descriptor.digest] : [];
}

function nameOf(repository: string | undefined, tag: string): string {
  return repository === undefined ? tag : `${repository}:${tag}`;
}

/** The tag that an entry has in a repository; `undefined` if it has none there. */
function tagOf({ name, full }: IndexEntry, repository: string | undefined): string | undefined {
  if (repository === undefined) return tagPattern.test(name) ? name : undefined;
  return full?.repository === repository ? full.tag : undefined;
}

/** Whether an entry has a name that is none of a repository's. */
function isOfOthers(entry: IndexEntry, repository: string | undefined): boolean {
  return !isUnnamed(entry) && tagOf(entry, repository) === undefined;
}

function isUnnamed({ name, full }: IndexEntry): boolean {
  return name === "" && full === undefined;
}

/** What others wrote without a name stays: it may be all that they look at. */
function isAddedUnnamed({ json, descriptor }: IndexEntry): boolean {
  return descriptor !== undefined && json === JSON.stringify(formatDescriptor(descriptor));
}

function parts(repository: string): Reference {
  const { registry, path } = parseReference(repository);
  return { registry, path };
}
