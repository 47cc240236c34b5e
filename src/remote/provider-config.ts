import { constants } from "node:fs";
import { access, open, stat } from "node:fs/promises";
import { isAbsolute, join } from "node:path";

import { isJsonObject, type JsonObject } from "#json/json.ts";
import { parseGoDuration } from "./go-duration.ts";
import { parsePlace, type RegistryPlace } from "./keyring.ts";

/** A program that gives logins, as the kubelet starts them. */
export interface CredentialProvider {
  /** The name of its file. */
  readonly name: string;
  /** For which images it is asked. */
  readonly places: readonly RegistryPlace[];
  /** How long an answer counts that does not say it. */
  readonly defaultCacheMs: number;
  readonly args: readonly string[];
  /** What it gets besides the environment of this process. */
  readonly env: Readonly<Record<string, string>>;
}

/** What a kubelet's file of credential providers says. */
export interface ParsedProviders {
  readonly providers: readonly CredentialProvider[];
  /** Each with field, value and what was expected. Never a value of `env`, nor an argument. */
  readonly problems: readonly string[];
}

/** The version of requests and answers. */
export const providerVersion = "credentialprovider.kubelet.k8s.io/v1";

const configVersion = "kubelet.config.k8s.io/v1";
const configKind = "CredentialProviderConfig";

/** An operator's file; more than this is some other file. */
const maxFileBytes = 1 << 20;

/** What else of a value would fill an error. */
const maxQuotedChars = 100;

/** The operator's credential providers cannot be used. The message has a line for each problem. */
export class ProviderConfigError extends Error {
  override readonly name = "ProviderConfigError";
  readonly code = "PROVIDER_CONFIG";
  readonly retryable = false;
}

/**
 * Reads a kubelet's `CredentialProviderConfig`, in YAML or JSON, and sees to it that each of its
 * programs is in the folder.
 *
 * @throws {ProviderConfigError} with everything that is wrong at once.
 */
export async function readProviders({
  file,
  folder,
}: {
  file: string;
  folder: string;
}): Promise<readonly CredentialProvider[]> {
  const { providers, problems } = parseProviders(await readYaml(file));
  if (problems.length > 0) {
    throw new ProviderConfigError(problems.map((problem) => `${file}: ${problem}`).join("\n"));
  }
  if (!isAbsolute(folder)) {
    throw new ProviderConfigError(`${JSON.stringify(folder)} must be the full path of a folder`);
  }
  const missing: string[] = [];
  for (const { name } of providers) {
    if (!(await isProgram(join(folder, name)))) {
      missing.push(`${file}: no program ${JSON.stringify(name)} that can be run is in ${folder}`);
    }
  }
  if (missing.length > 0) throw new ProviderConfigError(missing.join("\n"));
  return providers;
}

/** Parses what a kubelet's file of credential providers says, strictly: what is unknown is a problem. */
export function parseProviders(config: unknown): ParsedProviders {
  const problems: string[] = [];
  if (!isJsonObject(config)) return { providers: [], problems: [`must be a ${configKind}`] };
  const root = new Fields("", config, problems);
  root.requireWord("apiVersion", configVersion);
  root.requireWord("kind", configKind);
  const list = root.list("providers", { min: 1 });
  root.refuseOthers();
  const providers = list.map((item, index) => {
    return parseProvider(new Fields(`providers[${index}]`, item, problems));
  });
  for (const [index, { name }] of providers.entries()) {
    if (name === "" || providers.findIndex((other) => other.name === name) === index) continue;
    problems.push(`providers[${index}].name: ${quote(name)} must stand only once`);
  }
  return { providers: problems.length === 0 ? providers : [], problems };
}

function parseProvider(fields: Fields): CredentialProvider {
  const name = fields.text("name");
  if (name !== undefined && !/^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$/.test(name)) {
    fields.refuse("name", name, 'must be the name of a file, of letters, digits, ".", "_" and "-"');
  }
  fields.requireWord("apiVersion", providerVersion);
  const places = fields.list("matchImages", { min: 1 }).flatMap((item, index) => {
    const place = parseMatch(item);
    if (typeof place !== "string") return place;
    fields.refuse(`matchImages[${index}]`, item, place);
    return [];
  });
  const args = fields.list("args").flatMap((item, index) => {
    if (typeof item === "string" && !item.includes("\0")) return item;
    fields.refuse(`args[${index}]`, undefined, "must be a text");
    return [];
  });
  const env: Record<string, string> = {};
  for (const [index, item] of fields.list("env").entries()) {
    const variable = fields.below(`env[${index}]`, item);
    const key = variable.text("name");
    const value = variable.text("value", { isSecret: true });
    variable.refuseOthers();
    if (key !== undefined && !/^[^=\0]+$/.test(key)) {
      variable.refuse("name", key, 'must be the name of a variable, without "="');
    } else if (key !== undefined && value !== undefined) env[key] = value;
  }
  const written = fields.text("defaultCacheDuration");
  const defaultCacheMs = written === undefined ? 0 : parseGoDuration(written);
  if (defaultCacheMs === undefined) {
    fields.refuse("defaultCacheDuration", written, 'must be a duration like "12h" or "0s"');
  }
  fields.refuseOthers(
    "tokenAttributes",
    "is not supported: a prefetch is for no pod whose service account could be asked with",
  );
  return { name: name ?? "", places, defaultCacheMs: defaultCacheMs ?? 0, args, env };
}

/** @returns what was expected, if it is no pattern. */
function parseMatch(pattern: unknown): RegistryPlace | string {
  const expected = 'must be "host[:port][/path]", with "*" only in the host';
  if (typeof pattern !== "string" || pattern.includes("://")) return expected;
  const place = parsePlace(pattern);
  return typeof place === "string" || /[*?[\]]/.test(place.path) ? expected : place;
}

/** The fields of one object, of which each is looked at once. */
class Fields {
  readonly #path: string;
  readonly #values: JsonObject;
  /** All problems; those of this object go nowhere if it is none, which is then said once. */
  readonly #problems: string[];
  readonly #known = new Set<string>();

  constructor(path: string, value: unknown, problems: string[]) {
    this.#path = path;
    this.#values = isJsonObject(value) ? value : {};
    this.#problems = isJsonObject(value) ? problems : [];
    if (!isJsonObject(value)) problems.push(`${path}: must be an object`);
  }

  /** The object in a part of this one. */
  below(part: string, value: unknown): Fields {
    return new Fields(`${this.#path}.${part}`, value, this.#problems);
  }

  /** A text that has to be there. */
  text(name: string, { isSecret = false } = {}): string | undefined {
    const value = this.#take(name);
    if (typeof value === "string" && !value.includes("\0") && (value !== "" || isSecret)) {
      return value;
    }
    this.refuse(name, isSecret ? undefined : value, "must be a text");
    return undefined;
  }

  requireWord(name: string, word: string): void {
    const value = this.#take(name);
    if (value !== word) this.refuse(name, value, `must be ${quote(word)}`);
  }

  list(name: string, { min = 0 } = {}): readonly unknown[] {
    const value = this.#take(name) ?? [];
    if (Array.isArray(value) && value.length >= min) return value;
    const least = min > 0 ? ` with at least ${min}` : "";
    this.refuse(name, undefined, `must be a list${least}`);
    return [];
  }

  /** @param value - to be quoted; `undefined` if it is none of the log's business. */
  refuse(name: string, value: unknown, expected: string): void {
    const shown = value === undefined ? "" : `${quote(value)} `;
    this.#problems.push(`${this.#pathOf(name)}: ${shown}${expected}`);
  }

  /** Refuses what nobody has looked at: mostly a spelling mistake, and the kubelet does it too. */
  refuseOthers(special?: string, why?: string): void {
    for (const name of Object.keys(this.#values)) {
      if (this.#known.has(name)) continue;
      const reason = name === special && why !== undefined ? why : "is no field that is known here";
      this.#problems.push(`${this.#pathOf(name.slice(0, maxQuotedChars))}: ${reason}`);
    }
  }

  #take(name: string): unknown {
    this.#known.add(name);
    return Object.hasOwn(this.#values, name) ? this.#values[name] : undefined;
  }

  #pathOf(name: string): string {
    return this.#path === "" ? name : `${this.#path}.${name}`;
  }
}

function quote(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > maxQuotedChars ? `${text.slice(0, maxQuotedChars)}…` : text;
}

async function readYaml(path: string): Promise<unknown> {
  const text = await readSmall(path);
  // Loaded here: only a controller that is given such a file pays for it. In the bundle, a CommonJS package
  // that is loaded so has no names but `default`.
  const { default: yaml } = await import("yaml");
  const document = yaml.parseDocument(text, { prettyErrors: true });
  const [error] = document.errors;
  if (!error) return document.toJS();
  // The parser's message quotes the file, whose `env` may hold a secret.
  const line = error.linePos?.[0].line;
  throw new ProviderConfigError(`${path}: line ${line ?? 1} must be YAML or JSON (${error.code})`);
}

async function readSmall(path: string): Promise<string> {
  try {
    await using file = await open(path);
    const { size } = await file.stat();
    if (size <= maxFileBytes) return await file.readFile("utf8");
  } catch (error) {
    throw new ProviderConfigError(`${path}: cannot be read`, { cause: error });
  }
  throw new ProviderConfigError(`${path}: must have at most ${maxFileBytes} bytes`);
}

async function isProgram(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}
