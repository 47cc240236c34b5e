import { open } from "node:fs/promises";
import { join } from "node:path";

import { isJsonObject, parseJson, textOf, type JsonObject } from "#json/json.ts";
import type { Repository } from "#oci/reference.ts";
import { askHelper, type Environment } from "./credential-helper.ts";
import { loginsFor, parsePullSecret, type KeyringEntry, type Login } from "./keyring.ts";

/** A file with more is none that `docker login` wrote. */
const maxFileBytes = 1 << 20;

/** More logins than this are a mistake. */
const maxEntries = 500;

export interface UserLoginsOptions {
  readonly env: Environment;
  /** Where `.docker/config.json` is looked for unless `DOCKER_CONFIG` says else. */
  readonly homeFolder: string;
  /** Longest wait for a credential helper: 10 s if not given. */
  readonly helperTimeoutMs?: number;
}

/** What one file has. */
interface LoginFile {
  readonly path: string;
  readonly entries: readonly KeyringEntry[];
  /** The helper to ask, by host. */
  readonly helpers: ReadonlyMap<string, string>;
  /** The helper to ask for every other host; empty if there is none. */
  readonly store: string;
}

/**
 * The registry logins of the person at the keyboard, as `docker login` and `podman login` keep them:
 * `$REGISTRY_AUTH_FILE`, `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`, and
 * `$XDG_RUNTIME_DIR/containers/auth.json`. The first file that has a login for a repository is the one
 * that counts.
 *
 * ```ts
 * const logins = await UserLogins.read({ env: process.env, homeFolder: homedir() });
 * await logins.loginsFor({ registry: "ghcr.io", path: "a/b" }, { signal });
 * ```
 */
export class UserLogins {
  readonly #options: UserLoginsOptions;
  readonly #files: readonly LoginFile[];
  /** Helpers are asked once for each host. */
  readonly #asked = new Map<string, Promise<Login | undefined>>();

  /** What of the files cannot be used, a sentence each. Never a text of theirs. */
  readonly problems: readonly string[];

  private constructor(
    options: UserLoginsOptions,
    files: readonly LoginFile[],
    problems: readonly string[],
  ) {
    this.#options = options;
    this.#files = files;
    this.problems = problems;
  }

  /** Reads the files that are there. What is wrong with one of them becomes a problem, no error. */
  static async read(options: UserLoginsOptions): Promise<UserLogins> {
    const files: LoginFile[] = [];
    const problems: string[] = [];
    for (const { path, isAskedFor } of placesOf(options)) {
      const bytes = await readSmall(path);
      if (bytes === undefined && isAskedFor)
        problems.push(`${path} (REGISTRY_AUTH_FILE) is not there`);
      if (bytes === undefined) continue;
      if (typeof bytes === "string") {
        problems.push(`${path} ${bytes}`);
        continue;
      }
      const read = parseLoginFile(path, bytes);
      files.push(read.file);
      problems.push(...read.problems);
    }
    return new UserLogins(options, files, problems);
  }

  /**
   * The logins to show to a repository's registry, the most fitting first: one for its path, then what a
   * credential helper knows of the host, then one for the host. None goes to another host.
   *
   * @throws {CredentialHelperError} if a helper that is named for the host is not there or fails.
   */
  async loginsFor(repository: Repository, { signal }: { signal: AbortSignal }): Promise<Login[]> {
    for (const file of this.#files) {
      const { entries } = file;
      const ofPaths = loginsFor(
        repository,
        entries.filter(({ path }) => path !== ""),
      );
      const ofHost = loginsFor(
        repository,
        entries.filter(({ path }) => path === ""),
      );
      const asked = await this.#askHelper(file, repository.registry.toLowerCase(), signal);
      const found = [...ofPaths, ...(asked ? [asked] : []), ...ofHost];
      if (found.length > 0) return found;
    }
    return [];
  }

  async #askHelper(
    { path, helpers, store }: LoginFile,
    host: string,
    signal: AbortSignal,
  ): Promise<Login | undefined> {
    const helper = helpers.get(host) ?? store;
    if (helper === "") return undefined;
    const key = `${helper} ${host}`;
    const { env, helperTimeoutMs = 10_000 } = this.#options;
    const asked =
      this.#asked.get(key) ??
      askHelper({ helper, host, file: path }, { env, timeoutMs: helperTimeoutMs, signal });
    this.#asked.set(key, asked);
    return asked;
  }
}

/** Where logins may be, the most explicit first. */
function placesOf({ env, homeFolder }: UserLoginsOptions): { path: string; isAskedFor: boolean }[] {
  const { REGISTRY_AUTH_FILE, DOCKER_CONFIG, XDG_RUNTIME_DIR } = env;
  const dockerFolder = DOCKER_CONFIG || join(homeFolder, ".docker");
  return [
    ...(REGISTRY_AUTH_FILE ? [{ path: REGISTRY_AUTH_FILE, isAskedFor: true }] : []),
    { path: join(dockerFolder, "config.json"), isAskedFor: false },
    ...(XDG_RUNTIME_DIR
      ? [{ path: join(XDG_RUNTIME_DIR, "containers", "auth.json"), isAskedFor: false }]
      : []),
  ];
}

/** @returns `undefined` if there is no such file, a text that says why it cannot be read. */
async function readSmall(path: string): Promise<Buffer | string | undefined> {
  try {
    await using file = await open(path);
    const { size } = await file.stat();
    return size > maxFileBytes ? `must have at most ${maxFileBytes} bytes` : await file.readFile();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    return `cannot be read (${String(code)})`;
  }
}

function parseLoginFile(path: string, bytes: Buffer): { file: LoginFile; problems: string[] } {
  const empty = { path, entries: [], helpers: new Map<string, string>(), store: "" };
  if (bytes.length === 0) return { file: empty, problems: [] };
  const config = parseJson(bytes.toString());
  if (!isJsonObject(config)) return { file: empty, problems: [`${path} must be a JSON object`] };
  const { entries, problems } = parseAuths(path, objectOf(config["auths"]));
  const helpers = new Map<string, string>();
  for (const [place, value] of Object.entries(objectOf(config["credHelpers"]))) {
    const helper = helperName(value);
    if (helper !== undefined) helpers.set(hostOf(place), helper);
    else
      problems.push(`${path}: credHelpers must name programs by letters, digits, ".", "_" and "-"`);
  }
  const store = config["credsStore"] ?? "";
  if (store !== "" && helperName(store) === undefined) {
    problems.push(`${path}: credsStore must name a program by letters, digits, ".", "_" and "-"`);
  }
  return { file: { path, entries, helpers, store: helperName(store) ?? "" }, problems };
}

function objectOf(value: unknown): JsonObject {
  return isJsonObject(value) ? value : {};
}

/** One by one, so that each problem says which one it is about. */
function parseAuths(
  path: string,
  auths: JsonObject,
): { entries: KeyringEntry[]; problems: string[] } {
  const all = Object.entries(auths);
  const problems =
    all.length > maxEntries
      ? [`${path} must have at most ${maxEntries} logins; the rest is left out`]
      : [];
  const entries = all.slice(0, maxEntries).flatMap(([place, auth], index) => {
    // What `docker login` leaves behind where a helper keeps the login.
    if (isJsonObject(auth) && Object.values(auth).every((value) => value === "")) return [];
    const text = JSON.stringify({ auths: { [place]: auth } });
    const parsed = parsePullSecret({
      type: "kubernetes.io/dockerconfigjson",
      data: { ".dockerconfigjson": Buffer.from(text).toString("base64") },
    });
    problems.push(
      ...parsed.problems.map((problem) =>
        problem.replace(
          /^data\["\.dockerconfigjson"\](?:: login 1)?/,
          `${path}: login ${index + 1}`,
        ),
      ),
    );
    return parsed.entries;
  });
  return { entries, problems };
}

/** The host of a place like `https://index.docker.io/v1/`. */
function hostOf(place: string): string {
  const [host = ""] = place
    .replace(/^https?:\/\//, "")
    .toLowerCase()
    .split("/");
  return host === "index.docker.io" ? "docker.io" : host;
}

/** A name that leads to no other place than the PATH. */
function helperName(value: unknown): string | undefined {
  const name = textOf(value);
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name) ? name : undefined;
}
