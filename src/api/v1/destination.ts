import { hash } from "node:crypto";
import { isIPv6 } from "node:net";

import { InvalidReferenceError, parseRepository, type Repository } from "#oci/reference.ts";

/** Where content goes if nobody says otherwise. No two sources land on one name. */
export const defaultTemplate = "{host}/{path}";

/** Registry and path together (`reference.ts`); registries refuse more. */
const maxNameChars = 255;

/** Of the hash that takes the place of what a name has too much: enough against chance and malice. */
const hashChars = 16;

/** Where a Mirror copies to: the registry, and what stands before all paths there. */
export interface Destination {
  readonly registry: string;
  /** Empty, or path components: `mirror/eu`. */
  readonly prefix: string;
}

/** A destination, or a template for one, means nothing. */
export class DestinationError extends Error {
  override readonly name = "DestinationError";
  readonly code = "INVALID_DESTINATION";
  readonly retryable = false;
  /** What was expected, to stand after the value: `must …`. */
  readonly reason: string;

  constructor(text: string, reason: string) {
    super(`Cannot copy to ${JSON.stringify(text.slice(0, 100))}: ${reason}`);
    this.reason = reason;
  }
}

/**
 * Parses `spec.registry`: `host[:port][/prefix]`.
 *
 * @throws {DestinationError}
 */
export function parseDestination(text: string): Destination {
  const [first = ""] = text.split("/");
  const isHost = first === "localhost" || /[.:]/.test(first);
  if (!isHost) {
    throw new DestinationError(
      text,
      'must begin with a host like "registry.local" or "registry:5000"',
    );
  }
  const { registry, path } = tryParse(text, `${text}/x`);
  // Docker's registry puts "library" before a name without a slash, which is no prefix of anybody's.
  const isBare = !text.includes("/");
  return { registry, prefix: isBare ? "" : path.slice(0, -"/x".length) };
}

function tryParse(text: string, name: string): Repository {
  try {
    return parseRepository(name);
  } catch (error) {
    if (!(error instanceof InvalidReferenceError)) throw error;
    throw new DestinationError(text, error.reason);
  }
}

/**
 * Names the repository that a source is copied to, by a template of text and the parts of the source's name:
 * `{host}`, `{path}`, and of the path its last part `{name}` and all before, `{org}`, which may be empty.
 *
 * A port becomes `_5000`, since a path has no colons. What is too long for a name is cut, and ends in a hash
 * of the whole instead.
 *
 * @returns the path, with the destination's prefix.
 * @throws {DestinationError} if the template has other parts, or no path comes out.
 */
export function destinationPath(
  { registry, prefix }: Destination,
  source: Repository,
  template: string = defaultTemplate,
): string {
  const parts: Record<string, string> = {
    host: hostPart(source.registry),
    path: source.path,
    org: source.path.slice(0, Math.max(0, source.path.lastIndexOf("/"))),
    name: source.path.slice(source.path.lastIndexOf("/") + 1),
  };
  const filled = template.replaceAll(/\{([^{}]*)\}/g, (whole, name: string) => {
    const part = Object.hasOwn(parts, name) ? parts[name] : undefined;
    if (part === undefined) {
      throw new DestinationError(
        template,
        `must have none but {host}, {path}, {org}, {name}, not ${whole}`,
      );
    }
    return part;
  });
  // An {org} that is empty leaves a slash too many.
  const path = [prefix, ...filled.split("/")].filter((part) => part !== "").join("/");
  const fitting = shorten(path, maxNameChars - registry.length - 1);
  const parsed = tryParse(template, `${registry}/${fitting}`);
  if (parsed.path !== fitting && parsed.path !== `library/${fitting}`) {
    throw new DestinationError(template, "must make the path of a repository");
  }
  return parsed.path;
}

/** Cuts a path to a length, so that paths that differ still do. */
function shorten(path: string, maxChars: number): string {
  if (path.length <= maxChars) return path;
  const cut = path.slice(0, Math.max(0, maxChars - hashChars - 1)).replace(/[^a-z0-9]+$/, "");
  return `${cut}-${hash("sha256", path).slice(0, hashChars)}`;
}

/**
 * A registry's host as a part of a path. Hosts have neither underscores nor, to DNS, upper case; so a port
 * is told by one underscore, and the hosts that are addresses in brackets by two.
 */
function hostPart(registry: string): string {
  const bracketed = /^\[(.*)\](?::(\d+))?$/.exec(registry);
  const [host = "", port] = bracketed
    ? [ipv6Part(bracketed[1] ?? ""), bracketed[2]]
    : registry.split(":");
  return port === undefined ? host.toLowerCase() : `${host.toLowerCase()}_${port}`;
}

function ipv6Part(address: string): string {
  if (!isIPv6(address)) throw new DestinationError(address, "must be an address of IPv6");
  // Only the URL parser spells one address in one way.
  const { hostname } = new URL(`http://[${address}]/`);
  const [before = "", after = ""] = hostname.slice(1, -1).split("::");
  const [left, right] = [before, after].map((text) => text.split(":").filter(Boolean));
  const zeros = Array.from({ length: 8 - (left?.length ?? 0) - (right?.length ?? 0) }, () => "0");
  return `ipv6__${[...(left ?? []), ...zeros, ...(right ?? [])].join("-")}`;
}

/**
 * Names a repository in a way that tells whether two names are of one: hosts have no case, and the ports of
 * HTTP and HTTPS go without saying.
 */
export function repositoryKey({ registry, path }: Repository): string {
  return `${registry.toLowerCase().replace(/:(?:80|443)$/, "")}/${path}`;
}

/** Sources of which more than one would land on a path. */
export interface Collision {
  readonly path: string;
  /** In full: `ghcr.io/a/b`. */
  readonly sources: readonly string[];
}

/** What becomes of a list of sources. */
export interface Destinations {
  /** Paths by source in full, without those that collide or make none. */
  readonly paths: ReadonlyMap<string, string>;
  readonly collisions: readonly Collision[];
  /** Why there is no path for a source, to stand after it. */
  readonly problems: ReadonlyMap<string, string>;
}

/** Names the destination of each source, and finds those that would overwrite one another. */
export function destinationsOf(
  destination: Destination,
  sources: readonly Repository[],
  template: string = defaultTemplate,
): Destinations {
  const byPath = new Map<string, Set<string>>();
  const problems = new Map<string, string>();
  for (const source of sources) {
    const name = `${source.registry}/${source.path}`;
    try {
      const path = destinationPath(destination, source, template);
      byPath.set(path, (byPath.get(path) ?? new Set()).add(name));
    } catch (error) {
      if (!(error instanceof DestinationError)) throw error;
      problems.set(name, error.reason);
    }
  }
  const paths = new Map<string, string>();
  const collisions: Collision[] = [];
  for (const [path, names] of byPath) {
    const [first = ""] = names;
    if (names.size === 1) paths.set(first, path);
    else collisions.push({ path, sources: [...names].sort() });
  }
  return { paths, collisions, problems };
}
