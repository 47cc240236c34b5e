import { hash } from "node:crypto";

import type { Clock } from "#async/clock.ts";
import type { Descriptor } from "#oci/content.ts";
import {
  digestPattern,
  formatReference,
  parseDigest,
  parseReference,
  parseRepository,
  type Repository,
} from "#oci/reference.ts";
import type { Log } from "#telemetry/log.ts";
import type { Answer } from "./answer.ts";
import { Authorizer } from "./authorizer.ts";
import { Budgets } from "./budget.ts";
import type { TlsSettings } from "./connect.ts";
import type { Login } from "./keyring.ts";
import {
  acceptManifests,
  hasPlatform,
  isManifestType,
  mediaTypeOf,
  parseManifest,
  platformOfConfig,
  type ImageManifest,
  type IndexManifest,
} from "./manifest.ts";
import type { NetworkPolicy } from "./network-policy.ts";
import { nextPage } from "./pages.ts";
import type { ProxySettings } from "./proxy.ts";
import {
  hostInUrl,
  RegistryCall,
  type Patience,
  type RegistryCallOptions,
} from "./registry-call.ts";
import { RegistryError } from "./registry-error.ts";
import { RemoteRepository } from "./remote-repository.ts";
import type { Actions } from "./scopes.ts";
import { SharedKnowledge } from "./shared-knowledge.ts";
import { parseTags } from "./tag-page.ts";
import { Transport } from "./transport.ts";

export { RegistryError } from "./registry-error.ts";

export interface RegistryClientOptions {
  readonly userAgent: string;
  readonly log: Log;
  readonly clock: Clock;
  /** Where connections may go, those to token realms and redirects' targets included. */
  readonly network: NetworkPolicy;
  /** Each `host[:port]` that speaks plain HTTP. All others speak HTTPS. */
  readonly plainHttp: readonly string[];
  /** Certificates in PEM that are trusted besides those that Node trusts. */
  readonly ca?: string;
  /** Certificate and key in PEM, shown to registries that ask for one. */
  readonly clientCertificate?: TlsSettings["client"];
  /** Believes every registry to be the one it says it is. */
  readonly insecureSkipVerify?: boolean;
  /** None if not given: the environment is not looked at. */
  readonly proxies?: ProxySettings | undefined;
  /** Longest wait for one answer, from the connection to its last byte: 30 s if not given. */
  readonly timeoutMs?: number;
  /** Longest wait for the next bytes of a blob to come or go: 60 s if not given. */
  readonly idleTimeoutMs?: number;
  /** What registries allow, for {@link RegistryClient.repository}: its own if not given. */
  readonly budgets?: Budgets;
  readonly random?: () => number;
}

export interface RepositoryOptions {
  /** Tried in order; the next only if a registry refuses one. Nobody's login is shown without any. */
  readonly logins: readonly Login[];
  /** What is going to be done there: `pull` if not given. */
  readonly actions?: Actions;
  /**
   * Told when a request has to wait because the registry's budget is spent, in milliseconds since
   * 1970 until when, and with `undefined` when that request goes on.
   */
  readonly onThrottled?: (untilMs: number | undefined) => void;
}

export interface RequestOptions {
  /** Tried in order; the next only if a registry refuses one. Nobody's login is shown without any. */
  readonly logins: readonly Login[];
  readonly signal: AbortSignal;
}

/** What a reference names. */
export interface Resolved {
  /** Of the index, if there is one. */
  readonly digest: string;
  readonly mediaType: string;
}

/** How large an image is on one platform. */
export interface PlatformSize {
  /** As the image says it: `linux/amd64`, `linux/arm64/v8`. */
  readonly platform: string;
  /** Configuration and layers as a node downloads them. */
  readonly sizeBytes: number;
}

/** A limit of the specification (distribution-spec, "Pushing Manifests"). */
const maxManifestBytes = 4 << 20;

/** Room for 10,000 tags, and for what some registries add to them. */
const maxTagPageBytes = 2 << 20;

const tagsPerPage = 1_000;

/** For 10,000 tags at a registry that gives 20 at a time. */
const maxTagPages = 500;

/** Room for the longest history of an image. */
const maxConfigBytes = 4 << 20;

/**
 * Asks registries what images are (OCI distribution-spec 1.1), and gives their repositories.
 *
 * Every method throws {@link RegistryError} if a registry does not tell, `InvalidReferenceError` for
 * what is no image name, and the signal's reason if aborted. Nothing is tried again by itself,
 * but what {@link repository} gives is patient.
 *
 * ```ts
 * await using client = new RegistryClient({ userAgent, log, clock, network, plainHttp: [] });
 * const { digest } = await client.resolve("debian:bookworm", { logins: [], signal });
 * const sizes = await client.sizes("debian:bookworm", digest, { logins: [], signal });
 * ```
 */
export class RegistryClient implements AsyncDisposable {
  readonly #transport: Transport;
  readonly #authorizer: Authorizer;
  readonly #clock: Clock;
  readonly #isPlainHttp: (host: string) => boolean;
  readonly #budgets: Budgets;
  readonly #random: () => number;
  readonly #shared: SharedKnowledge;

  constructor(options: RegistryClientOptions) {
    const { clock, plainHttp, timeoutMs = 30_000, idleTimeoutMs = 60_000 } = options;
    const { ca, clientCertificate: client, insecureSkipVerify, random = Math.random } = options;
    const tls = { ca, client, insecureSkipVerify };
    this.#transport = new Transport({ ...options, tls, timeoutMs, idleTimeoutMs });
    this.#clock = clock;
    this.#random = random;
    this.#budgets = options.budgets ?? new Budgets({ clock, random });
    this.#shared = new SharedKnowledge(clock);
    const plainHosts = new Set(plainHttp.map(hostInUrl));
    const isPlainHttp = (host: string): boolean => plainHosts.has(host);
    this.#isPlainHttp = isPlainHttp;
    this.#authorizer = new Authorizer({ transport: this.#transport, clock, isPlainHttp });
  }

  /**
   * Finds the digest that a reference names, by HEAD, which registries do not count as a pull; only
   * where the answer lacks the digest, by GET.
   */
  async resolve(reference: string, options: RequestOptions): Promise<Resolved> {
    const parsed = parseReference(reference);
    const call = this.#begin(`resolve "${formatReference(parsed)}"`, parsed, options);
    const name = parsed.digest ?? parsed.tag ?? "";
    const { header } = await call.ask({
      method: "HEAD",
      url: call.urlOf(`manifests/${name}`),
      accept: acceptManifests,
      limitBytes: 0,
    });
    const digest = header("docker-content-digest") ?? "";
    const mediaType = mediaTypeOf(header("content-type"));
    if (digestPattern.test(digest) && isManifestType(mediaType)) {
      if (parsed.digest !== undefined) requireDigest(digest, parsed.digest, call);
      return { digest, mediaType };
    }
    const found = await this.#readManifest(call, name);
    return { digest: found.digest, mediaType: found.manifest.mediaType };
  }

  /**
   * Reads how large an image is on each of its platforms. Empty for what is no image for a platform,
   * such as an artifact.
   *
   * What an index names and the registry does not have is left out: copies may be partial. So are
   * indexes within an index.
   *
   * @param digest - what {@link resolve} found. All that is read is checked against its digest.
   * @param isWanted - leaves out platforms before their manifests are read, which may count as pulls.
   */
  async sizes(
    reference: string,
    digest: string,
    options: RequestOptions & { readonly isWanted?: (platform: string) => boolean },
  ): Promise<PlatformSize[]> {
    const { isWanted = () => true } = options;
    const parsed = parseReference(reference);
    const call = this.#begin(`read sizes of "${formatReference(parsed)}"`, parsed, options);
    const { manifest } = await this.#readManifest(call, parseDigest(digest));
    const sizes = new Map<string, number>();
    const add = async (image: ImageManifest, stated?: string): Promise<void> => {
      const platform = stated ?? (await this.#readPlatform(call, image.config));
      if (platform === undefined || sizes.has(platform) || !isWanted(platform)) return;
      sizes.set(platform, image.sizeBytes);
    };
    if (manifest.kind === "image") await add(manifest);
    for (const child of manifest.kind === "index" ? manifest.children : []) {
      const { platform } = child;
      if (platform !== undefined && (sizes.has(platform) || !isWanted(platform))) continue;
      const image = await this.#readChild(call, child);
      if (image) await add(image, platform);
    }
    return [...sizes].map(([platform, sizeBytes]) => ({ platform, sizeBytes }));
  }

  /**
   * Lists the tags of a repository, in the registry's order, page by page.
   *
   * @param repository - full name without tag and digest.
   * @returns at most `maxTags`; texts that are no tags are left out.
   */
  async tags(
    repository: string,
    options: RequestOptions & { readonly maxTags: number },
  ): Promise<string[]> {
    const { maxTags } = options;
    const parsed = parseRepository(repository);
    const call = this.#begin(`list tags of "${parsed.registry}/${parsed.path}"`, parsed, options);
    const tags = new Set<string>();
    const seen = new Set<string>();
    let url: URL | undefined = call.urlOf(`tags/list?n=${tagsPerPage}`);
    while (url && !seen.has(url.href)) {
      if (seen.size === maxTagPages) throw call.badAnswer(`lists more than ${maxTagPages} pages`);
      seen.add(url.href);
      const page: Answer = await call.ask({
        method: "GET",
        url,
        accept: "application/json",
        limitBytes: maxTagPageBytes,
      });
      const found = parseTags(page.body);
      if (!found) throw call.badAnswer("sends no list of tags");
      for (const tag of found) {
        if (tags.size === maxTags) return [...tags];
        tags.add(tag);
      }
      url = nextPage(page, url, call);
    }
    return [...tags];
  }

  /**
   * Gives a repository to read from and to write to. It shares connections, tokens and budgets with
   * all others of the client.
   *
   * @param name - full name without tag and digest.
   * @throws {InvalidReferenceError} if it is none.
   */
  repository(name: string, options: RepositoryOptions): RemoteRepository {
    const repository = parseRepository(name);
    const { actions = "pull", onThrottled } = options;
    let { logins } = options;
    const patience: Patience = {
      budgets: this.#budgets,
      random: this.#random,
      onThrottled,
      onServed(login) {
        if (login !== logins[0]) logins = [login, ...logins.filter((other) => other !== login)];
      },
    };
    return new RemoteRepository({
      repository,
      actions,
      shared: this.#shared,
      begin: (act, { signal, scopes }) =>
        this.#beginWith({ act, repository, logins, scopes, patience, signal }),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#transport[Symbol.asyncDispose]();
  }

  #begin(act: string, { registry, path }: Repository, options: RequestOptions): RegistryCall {
    return this.#beginWith({ act, repository: { registry, path }, ...options });
  }

  #beginWith(
    call: Omit<RegistryCallOptions, "transport" | "authorizer" | "clock" | "isPlainHttp">,
  ): RegistryCall {
    return new RegistryCall({
      ...call,
      transport: this.#transport,
      authorizer: this.#authorizer,
      clock: this.#clock,
      isPlainHttp: this.#isPlainHttp,
    });
  }

  /** Reads a manifest by tag or digest and checks it against its digest. */
  async #readManifest(
    call: RegistryCall,
    name: string,
    limitBytes: number = maxManifestBytes,
  ): Promise<{ digest: string; manifest: ImageManifest | IndexManifest; sizeBytes: number }> {
    const { header, body } = await call.ask({
      method: "GET",
      url: call.urlOf(`manifests/${name}`),
      accept: acceptManifests,
      limitBytes,
    });
    const stated = digestPattern.test(name) ? name : header("docker-content-digest");
    const digest = digestPattern.test(stated ?? "") ? stated : undefined;
    const actual = digestOf(body, digest);
    if (digest !== undefined) requireDigest(actual, digest, call);
    const manifest = parseManifest(body, header("content-type"));
    if (typeof manifest === "string") throw call.badAnswer(manifest);
    return { digest: actual, manifest, sizeBytes: body.length };
  }

  /** Reads one image of an index; `undefined` if the registry does not have it. */
  async #readChild(call: RegistryCall, child: Descriptor): Promise<ImageManifest | undefined> {
    if (child.sizeBytes > maxManifestBytes)
      throw call.badAnswer("names a manifest that is too long");
    try {
      const read = await this.#readManifest(call, child.digest, child.sizeBytes);
      if (read.sizeBytes !== child.sizeBytes) throw call.badAnswer(wrongSize);
      if (read.manifest.kind === "index") throw call.badAnswer("gives an index for an image");
      return read.manifest;
    } catch (error) {
      if (error instanceof RegistryError && error.code === "NOT_FOUND") return undefined;
      throw error;
    }
  }

  async #readPlatform(call: RegistryCall, config: Descriptor): Promise<string | undefined> {
    if (!hasPlatform(config)) return undefined;
    const { digest, sizeBytes } = config;
    if (sizeBytes > maxConfigBytes) throw call.badAnswer("names a configuration that is too long");
    const url = call.urlOf(`blobs/${digest}`);
    const { body } = await call.ask({ method: "GET", url, limitBytes: sizeBytes });
    requireDigest(digestOf(body, digest), digest, call);
    if (body.length !== sizeBytes) throw call.badAnswer(wrongSize);
    return platformOfConfig(body);
  }
}

const wrongSize = "sends something of another size than its descriptor says";

function digestOf(body: Buffer, like: string | undefined): string {
  const algorithm = like?.startsWith("sha512:") ? "sha512" : "sha256";
  return `${algorithm}:${hash(algorithm, body)}`;
}

function requireDigest(actual: string, wanted: string, call: RegistryCall): void {
  if (actual !== wanted) throw call.badAnswer("sends something else than its digest says");
}
