import type { Repository } from "#oci/reference.ts";
import { isJsonObject, parseJson, textOf } from "#json/json.ts";

/** What a registry is shown: told apart by `"identityToken" in login`. Never to be logged. */
export type Login =
  | { readonly username: string; readonly password: string }
  | { readonly identityToken: string };

/** Some repositories of some registries. */
export interface RegistryPlace {
  /** `host[:port]`; Docker Hub is `docker.io`. A `*` stands for any text within a label of the host. */
  readonly registry: string;
  /** Only the repositories at and below this path; empty for all of the registry. */
  readonly path: string;
}

/** A login, and for which repositories it is. */
export interface KeyringEntry extends RegistryPlace {
  readonly login: Login;
}

/** What a Secret holds for registries. */
export interface ParsedPullSecret {
  readonly entries: KeyringEntry[];
  /** What of it cannot be used, to stand after the Secret's name. Never a text of the Secret. */
  readonly problems: string[];
}

/** The key in a Secret's data, for each type of Secret that holds logins. */
const dataKeys = new Map([
  ["kubernetes.io/dockerconfigjson", ".dockerconfigjson"],
  ["kubernetes.io/dockercfg", ".dockercfg"],
]);

/** The API server takes at most 1 MiB in all of a Secret; Base64 makes a third more of it. */
const maxDataChars = 1_500_000;

/** More logins than this are a mistake, or meant to cost time at each look-up. */
const maxEntries = 500;

/** What an event has room for. */
const maxProblems = 10;

/**
 * Reads the logins of a pull Secret, of type `kubernetes.io/dockerconfigjson` or
 * `kubernetes.io/dockercfg`. One bad entry spoils no other. Nothing that it may hold makes it throw.
 *
 * `auth` wins over `username` and `password`, as for the kubelet; `identitytoken` wins over all.
 */
export function parsePullSecret(secret: {
  type?: string;
  data?: Readonly<Record<string, string>>;
}): ParsedPullSecret {
  const key = dataKeys.get(secret.type ?? "");
  if (key === undefined) {
    return { entries: [], problems: [`type must be one of ${[...dataKeys.keys()].join(", ")}`] };
  }
  const text = secret.data?.[key];
  if (typeof text !== "string" || text === "") return refuse(key, "must not be empty");
  if (text.length > maxDataChars) return refuse(key, "must be smaller");
  const config = parseJson(Buffer.from(text, "base64").toString());
  if (!isJsonObject(config)) return refuse(key, "must be a JSON object");
  const auths = key === ".dockercfg" ? config : config["auths"];
  if (!isJsonObject(auths)) return refuse(key, 'must have an object "auths"');
  return parseAuths(key, Object.entries(auths));
}

/**
 * The logins that may be shown to a repository's registry, the most fitting first: a host that is
 * spelled out before one with `*`, then the longest path. Each login comes once.
 *
 * A login goes to the host it was given for and to no other; one for Docker Hub is no default
 * for hosts without one. Hosts match as the kubelet matches them: label by label, as many labels,
 * and the port must be the same. Unlike there, a path ends with a component: `a/b` is not for `a/bc`.
 */
export function loginsFor(repository: Repository, entries: readonly KeyringEntry[]): Login[] {
  const fitting = entries
    .filter((entry) => isWithin(repository, entry))
    .sort((a, b) => wildness(a) - wildness(b) || b.path.length - a.path.length);
  return [...new Map(fitting.map(({ login }) => [JSON.stringify(login), login])).values()];
}

/** Whether a place has a repository, by the rules of {@link loginsFor}. */
export function isWithin(repository: Repository, { registry, path }: RegistryPlace): boolean {
  return matchesHost(registry, repository.registry) && isAtOrBelow(repository.path, path);
}

function refuse(key: string, why: string): ParsedPullSecret {
  return { entries: [], problems: [`data["${key}"] ${why}`] };
}

/** An entry is named by its position: its key is free text, in which somebody may have put a login. */
function parseAuths(key: string, auths: readonly [string, unknown][]): ParsedPullSecret {
  const entries: KeyringEntry[] = [];
  const problems: string[] = [];
  for (const [index, [name, auth]] of auths.slice(0, maxEntries).entries()) {
    const place = parsePlace(name);
    const login = parseLogin(auth);
    if (typeof place === "string") problems.push(`data["${key}"]: login ${index + 1} ${place}`);
    else if (typeof login === "string") {
      problems.push(`data["${key}"]: login ${index + 1} ${login}`);
    } else entries.push({ ...place, login });
  }
  if (auths.length > maxEntries) {
    problems.push(`data["${key}"] must have at most ${maxEntries} logins; the rest is left out`);
  }
  const more = problems.length - maxProblems;
  if (more > 0) problems.splice(maxProblems, more, `and ${more} problems more`);
  return { entries, problems };
}

const hostPattern =
  /^(?:\[[0-9a-f:.]{2,45}\]|[a-z0-9*_-]{1,63}(?:\.[a-z0-9*_-]{1,63})*)(?::[0-9]{1,5})?$/;

/**
 * Parses `[scheme://]host[:port][/path]`, where Docker writes `/v1/` or `/v2/` for no path at all.
 *
 * @returns what was expected, to stand after the name, if it is no such text.
 */
export function parsePlace(name: string): RegistryPlace | string {
  const bare = name.replace(/^https?:\/\//, "");
  const slash = bare.indexOf("/");
  const host = (slash < 0 ? bare : bare.slice(0, slash)).toLowerCase();
  if (host.length > 255 || !hostPattern.test(host)) {
    return "must be for a host, with a port if it has one, and a path if it is for that alone";
  }
  const path = slash < 0 ? "" : bare.slice(slash).replace(/^\/v[12](?=\/|$)/, "");
  const registry = host === "index.docker.io" ? "docker.io" : host;
  return { registry, path: path.split("/").filter(Boolean).join("/") };
}

/** Room for a cloud's key file or token. With more, a few logins would fill an answer to an agent. */
const maxSecretLength = 4_096;
const tooLong = `must have a login of at most ${maxSecretLength} characters`;

function parseLogin(auth: unknown): Login | string {
  if (!isJsonObject(auth)) return "must be an object";
  const identityToken = textOf(auth["identitytoken"]);
  if (identityToken.length > maxSecretLength) return tooLong;
  if (identityToken !== "") return { identityToken };
  const encoded = textOf(auth["auth"]).trim();
  if (encoded === "") return passwordLogin(textOf(auth["username"]), textOf(auth["password"]));
  if (!/^[A-Za-z0-9+/\r\n]+={0,2}$/.test(encoded)) return 'must have Base64 in "auth"';
  const decoded = Buffer.from(encoded, "base64").toString();
  const colon = decoded.indexOf(":");
  if (colon < 0) return 'must have user name, ":" and password in "auth"';
  return passwordLogin(decoded.slice(0, colon), decoded.slice(colon + 1));
}

/** Makes a login of both. @returns what was expected, if they cannot be one. Never a text of theirs. */
export function passwordLogin(username: string, password: string): Login | string {
  if (username === "" || password === "") return "must have a user name and a password";
  if (username.length + password.length > maxSecretLength) return tooLong;
  // RFC 7617, 2: the registry would take the rest for the beginning of the password.
  if (username.includes(":")) return 'must have a user name without ":"';
  return { username, password };
}

function wildness({ registry }: KeyringEntry): number {
  return registry.includes("*") ? 1 : 0;
}

function matchesHost(pattern: string, registry: string): boolean {
  const [labels, port] = splitHost(pattern);
  const [wanted, wantedPort] = splitHost(registry.toLowerCase());
  if (port !== wantedPort || labels.length !== wanted.length) return false;
  return labels.every((label, index) => matchesLabel(label, wanted[index] ?? ""));
}

function splitHost(registry: string): [labels: string[], port: string] {
  const [, host = registry, port = ""] = /^(.*?)(?::([0-9]+))?$/.exec(registry) ?? [];
  return [host.split("."), port];
}

/** Takes each part between two `*` where it comes first, so that no pattern costs more than its length. */
function matchesLabel(pattern: string, label: string): boolean {
  const [first = "", ...rest] = pattern.split("*");
  const last = rest.pop();
  if (last === undefined) return pattern === label;
  if (!label.startsWith(first)) return false;
  let position = first.length;
  for (const part of rest) {
    const found = label.indexOf(part, position);
    if (found < 0) return false;
    position = found + part.length;
  }
  return label.length - last.length >= position && label.endsWith(last);
}

function isAtOrBelow(path: string, prefix: string): boolean {
  return prefix === "" || path === prefix || path.startsWith(`${prefix}/`);
}
