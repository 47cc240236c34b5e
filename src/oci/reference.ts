import { hash } from "node:crypto";

/** A repository in a registry: `registry` is `host[:port]`, `path` the name under it. */
export interface Repository {
  readonly registry: string;
  readonly path: string;
}

/** A normalised image name. It has a tag or a digest, or both. */
export interface Reference extends Repository {
  readonly tag?: string;
  readonly digest?: string;
}

/** A text is not an image name, or not the part of one that was asked for. Trying again cannot help. */
export class InvalidReferenceError extends Error {
  override readonly name = "InvalidReferenceError";
  readonly code = "INVALID_REFERENCE";
  readonly retryable = false;
  /** The text as it was given, of any length. */
  readonly text: string;
  /** What was expected, to stand after the text: `must …`. */
  readonly reason: string;

  constructor(text: string, reason: string) {
    const shown = text.length > 100 ? `${text.slice(0, 100)}…` : text;
    super(`Cannot parse image name ${JSON.stringify(shown)}: ${reason}`);
    this.text = text;
    this.reason = reason;
  }
}

/** Looked at before anything else, so that no text costs more than this many characters. */
const maxTextChars = 4_096;

/** Registry, slash and path together: what every version of distribution/reference accepts. */
const maxNameChars = 255;

const dockerHub = "docker.io";
const dockerHubAliases = new Set([dockerHub, "index.docker.io"]);

/**
 * Parses an image name and spells out what it leaves implied: `debian` is `docker.io`,
 * `library/debian`, `latest`.
 *
 * The grammar is Docker's (github.com/distribution/reference): `localhost`, a dot or a port marks
 * the first part as a host, and a host keeps the case it was written in. Three things are stricter:
 * an upper-case first part without a dot or port is an error (Docker would dial a host of that
 * name), the 255 characters of a name include the registry, and digests are sha256 or sha512.
 * `latest` is implied only if there is neither tag nor digest.
 *
 * @throws {InvalidReferenceError} for every other text, and never anything else.
 */
export function parseReference(text: string): Reference {
  requireShort(text);
  const [named, digest] = cut(text, text.indexOf("@"));
  const [name, tag] = cut(named, tagIndex(named));
  const repository = parseName(text, name);
  if (tag !== undefined) requireTag(text, tag);
  if (digest !== undefined) requireDigest(text, digest);
  return {
    ...repository,
    ...(tag !== undefined && { tag }),
    ...(digest !== undefined && { digest }),
    ...(tag === undefined && digest === undefined && { tag: "latest" }),
  };
}

/** Formats the full form: `registry/path[:tag][@digest]`. The inverse of `parseReference`. */
export function formatReference({ registry, path, tag, digest }: Reference): string {
  const tagged = tag === undefined ? `${registry}/${path}` : `${registry}/${path}:${tag}`;
  return digest === undefined ? tagged : `${tagged}@${digest}`;
}

/**
 * Spells an image name out in full: `debian` → `docker.io/library/debian:latest`. Idempotent.
 *
 * @throws {InvalidReferenceError} if `text` is not an image name.
 */
export function normalizeReference(text: string): string {
  return formatReference(parseReference(text));
}

/**
 * Parses an image name that must have neither tag nor digest.
 *
 * @throws {InvalidReferenceError} for every other text, and never anything else.
 */
export function parseRepository(text: string): Repository {
  requireShort(text);
  if (text.includes("@")) throw new InvalidReferenceError(text, "must not have a digest");
  if (tagIndex(text) >= 0) throw new InvalidReferenceError(text, "must not have a tag");
  return parseName(text, text);
}

/** Checks a tag by itself. @throws {InvalidReferenceError} if it cannot be one. */
export function parseTag(text: string): string {
  requireTag(text, text);
  return text;
}

/** Checks a digest by itself. @throws {InvalidReferenceError} if it cannot be one. */
export function parseDigest(text: string): string {
  requireDigest(text, text);
  return text;
}

/**
 * Names an image in a Kubernetes label, where its own name would not fit: the MD5 of the normalised
 * form in 32 hexadecimal digits. It is a short name, not a proof of identity.
 *
 * @throws {InvalidReferenceError} if `reference` is not an image name.
 */
export function referenceLabel(reference: string): string {
  return hash("md5", normalizeReference(reference));
}

function requireShort(text: string): void {
  if (text.length > maxTextChars) {
    throw new InvalidReferenceError(text, `must have at most ${maxTextChars} characters`);
  }
}

/** Where the colon before a tag stands, or -1: a colon before a slash belongs to a port. */
function tagIndex(text: string): number {
  const colon = text.lastIndexOf(":");
  return colon > text.lastIndexOf("/") ? colon : -1;
}

/** What is before and after a separator; nothing is after one that is not there. */
function cut(text: string, index: number): [string, string?] {
  return index < 0 ? [text] : [text.slice(0, index), text.slice(index + 1)];
}

/** What the daemon takes for the id of an image rather than for its name. */
const imageIdPattern = /^[0-9a-f]{64}$/;

function parseName(text: string, name: string): Repository {
  if (name === "") throw new InvalidReferenceError(text, "must begin with a name");
  if (imageIdPattern.test(name)) {
    throw new InvalidReferenceError(
      text,
      "must not be 64 hexadecimal digits, which is an image id",
    );
  }
  const [first, rest] = cut(name, name.indexOf("/"));
  const hasHost = rest !== undefined && (first === "localhost" || /[.:]/.test(first));
  const registry = hasHost && !dockerHubAliases.has(first) ? first : dockerHub;
  const written = hasHost ? rest : name;
  const path = registry === dockerHub && !written.includes("/") ? `library/${written}` : written;
  if (registry.length + 1 + path.length > maxNameChars) {
    throw new InvalidReferenceError(
      text,
      `must have at most ${maxNameChars} characters of registry and path`,
    );
  }
  requireHost(text, registry);
  // The path as it was written: "library/" is not what an error should talk about.
  for (const component of written.split("/")) requirePathComponent(text, component);
  return { registry, path };
}

// The patterns below have no two ways to match one text, so a text that fails does so in linear time.
const hostLabelPattern = /^[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?$/;
const pathComponentPattern = /^[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*$/;

/** What a tag is (distribution-spec), also for whoever checks one elsewhere. */
export const tagPattern = /^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}$/;

/** What a digest is, as far as Coral takes it. */
export const digestPattern = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

const ipv6Pattern = /^\[[0-9a-fA-F:]+\](?::[0-9]+)?$/;

function requireHost(text: string, registry: string): void {
  const [host, port = "0"] = cut(registry, registry.indexOf(":"));
  const isName = host.split(".").every((label) => hostLabelPattern.test(label));
  if ((isName && /^[0-9]+$/.test(port)) || ipv6Pattern.test(registry)) return;
  throw new InvalidReferenceError(
    text,
    'must have a host like "ghcr.io", "localhost:5000" or "[::1]:5000" before the first slash',
  );
}

function requirePathComponent(text: string, component: string): void {
  if (pathComponentPattern.test(component)) return;
  if (component === "") {
    throw new InvalidReferenceError(text, "must not have an empty part between slashes");
  }
  if (/[A-Z]/.test(component)) {
    throw new InvalidReferenceError(text, "must be in lower case before the tag");
  }
  throw new InvalidReferenceError(
    text,
    'must have parts of lower-case letters and digits, joined by ".", "_", "__" or dashes',
  );
}

function requireTag(text: string, tag: string): void {
  if (tagPattern.test(tag)) return;
  throw new InvalidReferenceError(
    text,
    'must have a tag of 1 to 128 letters, digits, "_", "." and "-", not beginning with "." or "-"',
  );
}

function requireDigest(text: string, digest: string): void {
  if (digestPattern.test(digest)) return;
  throw new InvalidReferenceError(
    text,
    'must have a digest of "sha256:" and 64, or "sha512:" and 128, lower-case hexadecimal digits',
  );
}
