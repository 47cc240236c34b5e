import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";

import { isJsonObject, type JsonObject } from "#json/json.ts";

/** Where a cluster's API server is, and who we are to it. Texts are PEM, not paths. */
export interface ClusterConfig {
  /** `http:` is HTTP/2 without TLS, which only the tests' fake speaks. */
  readonly server: URL;
  /** Without it, the authorities that Node knows. */
  readonly ca?: string;
  readonly clientCert?: string;
  readonly clientKey?: string;
  /** Reads the bearer token to send; called for every request. */
  readonly token?: () => Promise<string>;
  /** The name in the server's certificate, where the URL has another. */
  readonly serverName?: string;
  /** Which one the context of a kubeconfig is about. */
  readonly namespace?: string;
}

/** Where the kubelet puts a pod's credentials. */
const serviceAccountDirectory = "/var/run/secrets/kubernetes.io/serviceaccount";

/** The kubelet replaces a projected token long before the old one ends (at 80 % of its life). */
const tokenMaxAgeMs = 60_000;

export interface InClusterOptions {
  /** Holds KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT, which the kubelet sets in each pod. */
  env?: Readonly<Record<string, string | undefined>>;
  directory?: string;
}

/**
 * Describes the cluster that this process runs in as a pod.
 *
 * @throws {ClusterConfigError} outside a pod.
 */
export async function inClusterConfig({
  env = process.env,
  directory = serviceAccountDirectory,
}: InClusterOptions = {}): Promise<ClusterConfig> {
  const host = env["KUBERNETES_SERVICE_HOST"];
  const port = env["KUBERNETES_SERVICE_PORT"] ?? "443";
  if (!host) throw new ClusterConfigError("KUBERNETES_SERVICE_HOST", "must be set, as in a pod");
  const server = new URL(`https://${host.includes(":") ? `[${host}]` : host}:${port}`);
  const ca = await readText(resolve(directory, "ca.crt"));
  return { server, ca, token: tokenFile(resolve(directory, "token")) };
}

/**
 * Makes a token reader for a file that somebody else keeps fresh; read at most once a minute.
 *
 * @param monotonicMs - a clock that is never set back.
 */
export function tokenFile(
  path: string,
  monotonicMs: () => number = () => performance.now(),
): () => Promise<string> {
  let token = "";
  let readAtMs = -Infinity;
  return async () => {
    if (monotonicMs() - readAtMs >= tokenMaxAgeMs) {
      token = (await readText(path)).trim();
      readAtMs = monotonicMs();
    }
    return token;
  };
}

/** There is no usable description of a cluster. Names the place, never what stands there. */
export class ClusterConfigError extends Error {
  override readonly name = "ClusterConfigError";
  readonly code = "CLUSTER_CONFIG";
  readonly retryable = false;

  constructor(place: string, problem: string, cause?: unknown) {
    super(`${place}: ${problem}`, { cause });
  }
}

/**
 * Describes the cluster of a context of a kubeconfig file: the current one, if none is named.
 *
 * Certificates and tokens may stand in it or in files beside it. Programs that print credentials
 * (`exec`), logins by password and switched-off verification are refused.
 *
 * @throws {ClusterConfigError} naming the field.
 */
export async function kubeconfigFile(
  path: string,
  { context }: { context?: string | undefined } = {},
): Promise<ClusterConfig> {
  const text = await readText(path);
  // Loaded here: the agent runs in a pod, has no use for it, and would pay for it on every node.
  const { default: yaml } = await import("yaml"); // All that a bundle has of it.
  let document: unknown;
  try {
    document = yaml.parse(text);
  } catch {
    // The parser's message quotes the file, which holds keys.
    throw new ClusterConfigError(path, "must be YAML");
  }
  return await new Kubeconfig(path, document).read(context);
}

class Kubeconfig {
  readonly #path: string;
  readonly #document: unknown;

  constructor(path: string, document: unknown) {
    this.#path = path;
    this.#document = document;
  }

  async read(
    contextName = this.#text(this.#root(), "current-context", "current-context"),
  ): Promise<ClusterConfig> {
    const root = this.#root();
    const context = this.#named(root, "contexts", contextName, "context");
    const cluster = this.#named(
      root,
      "clusters",
      this.#text(context, "cluster", "context.cluster"),
      "cluster",
    );
    const user = this.#named(root, "users", this.#text(context, "user", "context.user"), "user");
    this.#refuse(cluster, ["insecure-skip-tls-verify", "proxy-url"], "cluster");
    this.#refuse(user, ["exec", "auth-provider", "username", "password", "as"], "user");

    const ca = await this.#pem(cluster, "certificate-authority");
    const clientCert = await this.#pem(user, "client-certificate");
    const clientKey = await this.#pem(user, "client-key");
    const token = this.#token(user);
    const serverName = cluster["tls-server-name"];
    const { namespace } = context;
    return {
      server: this.#server(cluster),
      ...(ca !== undefined && { ca }),
      ...(clientCert !== undefined && { clientCert }),
      ...(clientKey !== undefined && { clientKey }),
      ...(token && { token }),
      ...(typeof serverName === "string" && { serverName }),
      ...(typeof namespace === "string" && namespace !== "" && { namespace }),
    };
  }

  #root(): JsonObject {
    return this.#object(this.#document, "kubeconfig");
  }

  #server(cluster: JsonObject): URL {
    const server = URL.parse(this.#text(cluster, "server", "cluster.server"));
    if (!server) throw this.#problem("cluster.server", "must be a URL");
    return server;
  }

  #token(user: JsonObject): (() => Promise<string>) | undefined {
    const { token, tokenFile: file } = user;
    if (typeof file === "string" && file !== "") return tokenFile(this.#resolve(file));
    if (typeof token === "string" && token !== "") return () => Promise.resolve(token);
    return undefined;
  }

  /** Reads `<field>-data` in base64, or the file that `<field>` names. */
  async #pem(object: JsonObject, field: string): Promise<string | undefined> {
    const data = object[`${field}-data`];
    if (typeof data === "string" && data !== "") return Buffer.from(data, "base64").toString();
    const file = object[field];
    if (typeof file === "string" && file !== "") return await readText(this.#resolve(file));
    return undefined;
  }

  #named(root: JsonObject, list: string, name: string, field: string): JsonObject {
    const entries: unknown = root[list];
    const found: unknown = Array.isArray(entries)
      ? entries.find((entry: unknown) => isJsonObject(entry) && entry["name"] === name)
      : undefined;
    return this.#object(isJsonObject(found) ? found[field] : undefined, `${list}["${name}"]`);
  }

  #refuse(object: JsonObject, fields: readonly string[], place: string): void {
    const found = fields.find((field) => object[field] !== undefined && object[field] !== false);
    if (found !== undefined) throw this.#problem(`${place}.${found}`, "is not supported");
  }

  #object(value: unknown, field: string): JsonObject {
    if (!isJsonObject(value)) throw this.#problem(field, "must be an object");
    return value;
  }

  #text(object: JsonObject, key: string, field: string): string {
    const value = object[key];
    if (typeof value !== "string" || value === "") throw this.#problem(field, "must be a text");
    return value;
  }

  #problem(field: string, problem: string): ClusterConfigError {
    return new ClusterConfigError(`${this.#path}: ${field}`, problem);
  }

  #resolve(file: string): string {
    return resolve(dirname(this.#path), file);
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new ClusterConfigError(path, "cannot be read", cause);
  }
}
