import { hash } from "node:crypto";

import type {
  ContentOptions,
  ContentTarget,
  Descriptor,
  ManifestContent,
  Named,
} from "#oci/content.ts";
import { fallbackTag } from "#oci/manifest.ts";
import { digestPattern, parseDigest, parseTag, type Repository } from "#oci/reference.ts";
import { downloadBlob } from "./blob-download.ts";
import { isThere, locationOf, uploadBlob } from "./blob-upload.ts";
import { acceptAllManifests, isAnyManifestType, mediaTypeOf } from "./manifest.ts";
import { isAbsent, readManifest } from "./manifest-read.ts";
import { readPages, type PagesOptions } from "./pages.ts";
import { addReferrer, parseReferrers, subjectOf } from "./referrers.ts";
import { askReferrers } from "./referrers-api.ts";
import type { RegistryCall } from "./registry-call.ts";
import { RegistryError } from "./registry-error.ts";
import { repositoryScope, type Actions } from "./scopes.ts";
import { parseTags } from "./tag-page.ts";
import type { SharedKnowledge } from "./shared-knowledge.ts";
import type { Answer } from "./answer.ts";

/** Room for 50,000 tags: some registries give all at once. */
const maxTagPageBytes = 8 << 20;

const tagsPerPage = 1_000;

/** Of an answer that needs no body. */
const maxReceiptBytes = 64 * 1024;

/** How often somebody else may change the same list of referrers in between. */
const maxReferrerWrites = 5;

export interface RemoteRepositoryOptions {
  readonly repository: Repository;
  /** What tokens are to be good for. */
  readonly actions: Actions;
  /** Begins a call at the registry. */
  readonly begin: (
    act: string,
    options: { readonly signal: AbortSignal; readonly scopes: readonly string[] },
  ) => RegistryCall;
  readonly shared: SharedKnowledge;
}

/**
 * A repository at a registry (OCI distribution-spec 1.1), to read from and to write to. What may be
 * tried again is, a few times; what a registry asks for by its limits is obeyed.
 *
 * Every method throws {@link RegistryError} if the registry does not do what was asked, and the
 * signal's reason if aborted.
 *
 * ```ts
 * const source = client.repository("ghcr.io/a/b", { logins });
 * const target = client.repository("registry.test/b", { logins: own, actions: "pull,push" });
 * await target.writeBlob(layer, (fromByte) => source.blob(layer, { fromByte, signal }), { signal });
 * ```
 */
export class RemoteRepository implements ContentTarget {
  readonly name: string;
  readonly #options: RemoteRepositoryOptions;

  constructor(options: RemoteRepositoryOptions) {
    const { registry, path } = options.repository;
    this.#options = options;
    this.name = `${registry}/${path}`;
  }

  async find(tagOrDigest: string, options: ContentOptions): Promise<Named | undefined> {
    const name = requireName(tagOrDigest);
    const call = this.#begin("find", name, options);
    const url = call.urlOf(`manifests/${name}`);
    const accept = acceptAllManifests;
    const answer = await call.ask({
      method: "HEAD",
      url,
      accept,
      limitBytes: 0,
      mayBeAbsent: true,
    });
    if (answer.status === 404) return undefined;
    const digest = answer.header("docker-content-digest") ?? "";
    const mediaType = mediaTypeOf(answer.header("content-type"));
    if (!digestPattern.test(digest) || !isAnyManifestType(mediaType)) {
      const found = await readManifest(call, name, this.name);
      return found && { digest: found.digest, mediaType: found.mediaType };
    }
    if (digestPattern.test(name) && digest !== name) {
      throw call.badAnswer("finds something else than was asked for");
    }
    return { digest, mediaType };
  }

  async manifest(
    tagOrDigest: string,
    options: ContentOptions,
  ): Promise<ManifestContent | undefined> {
    const name = requireName(tagOrDigest);
    return readManifest(this.#begin("read", name, options), name, this.name);
  }

  /**
   * Lists the tags in the registry's order, page by page. None if there is no such repository.
   *
   * @param options - `limit` ends it after so many.
   */
  async *tags(options: ContentOptions & { readonly limit?: number }): AsyncGenerator<string, void> {
    const { limit = Infinity } = options;
    const call = this.#beginAct(`list tags of "${this.name}"`, options);
    const url = call.urlOf(`tags/list?n=${tagsPerPage}`);
    const pages: PagesOptions = { accept: "application/json", limitBytes: maxTagPageBytes };
    let count = 0;
    try {
      for await (const { body } of readPages(call, url, pages)) {
        const found = parseTags(body);
        if (!found) throw call.badAnswer("sends no list of tags");
        for (const tag of found) {
          if (count++ === limit) return;
          yield tag;
        }
      }
    } catch (error) {
      if (!isAbsent(error)) throw error;
    }
  }

  async referrers(
    digest: string,
    options: ContentOptions & { readonly tags?: ReadonlySet<string> | undefined },
  ): Promise<readonly Descriptor[]> {
    const { shared, repository } = this.#options;
    const { registry } = repository;
    parseDigest(digest);
    if (!shared.lacksReferrers(registry)) {
      const call = this.#begin("list referrers of", digest, options);
      const found = await askReferrers(call, digest, () => shared.noteLackOfReferrers(registry));
      if (found) return found;
    }
    const tag = fallbackTag(digest);
    if (options.tags?.has(tag) === false) return [];
    const index = await this.manifest(tag, options);
    return (index && parseReferrers(index.bytes, undefined)) ?? [];
  }

  blob(
    descriptor: Descriptor,
    options: ContentOptions & { readonly fromByte?: number },
  ): AsyncIterable<Buffer> {
    const { fromByte = 0 } = options;
    const call = this.#begin("read", parseDigest(descriptor.digest), options);
    return downloadBlob(call, descriptor, { fromByte, where: this.name });
  }

  async hasBlob(digest: string, options: ContentOptions): Promise<boolean> {
    return isThere(this.#begin("find", parseDigest(digest), options), digest);
  }

  /** @param from - path of the other repository, or its name with the registry. */
  async mountBlob(digest: string, from: string, options: ContentOptions): Promise<boolean> {
    const { registry, path } = this.#options.repository;
    const other = from.startsWith(`${registry}/`) ? from.slice(registry.length + 1) : from;
    const scopes = [repositoryScope(path, "pull,push"), repositoryScope(other, "pull")];
    const call = this.#begin("mount", parseDigest(digest), options, scopes);
    const url = call.urlOf("blobs/uploads/");
    url.searchParams.set("mount", digest);
    url.searchParams.set("from", other);
    let answer: Answer;
    try {
      answer = await call.ask({ method: "POST", url, limitBytes: maxReceiptBytes });
    } catch (error) {
      // Who may not read there, or asks a registry that does not mount, uploads.
      if (error instanceof RegistryError && !error.retryable) return false;
      throw error;
    }
    if (answer.status === 201) return true;
    const upload = locationOf(answer, url, call, url);
    // Nobody else is asked to forget something.
    if (upload !== url && upload.host === url.host) {
      await call
        .ask({ method: "DELETE", url: upload, limitBytes: maxReceiptBytes, isOnce: true })
        .catch(() => options.signal.throwIfAborted()); // It forgets the upload by itself some day.
    }
    return false;
  }

  async writeBlob(
    descriptor: Descriptor,
    open: (fromByte: number) => AsyncIterable<Buffer>,
    options: ContentOptions & { readonly onProgress?: (sentBytes: number) => void },
  ): Promise<void> {
    const digest = parseDigest(descriptor.digest);
    const { signal, onProgress } = options;
    const begin = (scope: AbortSignal): RegistryCall =>
      this.#begin("write", digest, { signal: scope });
    await uploadBlob(descriptor, open, { begin, signal, onProgress });
  }

  async putManifest(
    tagOrDigest: string,
    manifest: ManifestContent,
    options: ContentOptions,
  ): Promise<void> {
    const subject = subjectOf(manifest);
    const answer = await this.#put(requireName(tagOrDigest), manifest, options);
    if (subject === undefined || answer.header("oci-subject") !== undefined) return;
    const { shared } = this.#options;
    const tag = fallbackTag(subject);
    using _ = await shared.lock(`${this.name}:${tag}`, options);
    await this.#addToTag(tag, manifest, options);
  }

  async deleteManifest(
    tagOrDigest: string,
    options: ContentOptions,
  ): Promise<"deleted" | "absent" | "unsupported"> {
    const name = requireName(tagOrDigest);
    const call = this.#begin("delete", name, options);
    const url = call.urlOf(`manifests/${name}`);
    try {
      await call.ask({ method: "DELETE", url, limitBytes: maxReceiptBytes });
      return "deleted";
    } catch (error) {
      if (isAbsent(error)) return "absent";
      if (error instanceof RegistryError && isUnsupported(error, name)) return "unsupported";
      throw error;
    }
  }

  /** Reads, changes and writes a list of referrers, and sees whether somebody else did the same. */
  async #addToTag(tag: string, manifest: ManifestContent, options: ContentOptions): Promise<void> {
    const call = this.#begin("add a referrer to", tag, options);
    for (let writes = 0; writes <= maxReferrerWrites; writes++) {
      const current = await readManifest(call, tag, this.name);
      const bytes = addReferrer(current, manifest);
      if (bytes === "no-index") throw call.badAnswer("has something else under that tag");
      if (bytes === "is-in") return;
      const digest = `sha256:${hash("sha256", bytes)}`;
      const mediaType = "application/vnd.oci.image.index.v1+json";
      await this.#put(tag, { mediaType, digest, bytes }, options);
    }
    throw call.badAnswer("has a list of referrers that others keep changing");
  }

  async #put(name: string, manifest: ManifestContent, options: ContentOptions): Promise<Answer> {
    const { mediaType, digest, bytes: body } = manifest;
    const call = this.#begin("write", name, options);
    const url = call.urlOf(`manifests/${name}`);
    const headers = { "content-type": mediaType };
    const answer = await call.ask({
      method: "PUT",
      url,
      headers,
      body,
      limitBytes: maxReceiptBytes,
    });
    const stored = answer.header("docker-content-digest") ?? digest;
    if (stored !== digest) throw call.badAnswer("stores the manifest under another digest");
    return answer;
  }

  /** @param what - `find`, before the name of a tag or digest. */
  #begin(
    what: string,
    name: string,
    options: ContentOptions,
    scopes?: readonly string[],
  ): RegistryCall {
    const separator = digestPattern.test(name) ? "@" : ":";
    return this.#beginAct(`${what} "${this.name}${separator}${name}"`, options, scopes);
  }

  #beginAct(
    act: string,
    { signal }: ContentOptions,
    scopes: readonly string[] = [this.#ownScope()],
  ): RegistryCall {
    return this.#options.begin(act, { signal, scopes });
  }

  #ownScope(): string {
    const { repository, actions } = this.#options;
    return repositoryScope(repository.path, actions);
  }
}

function requireName(tagOrDigest: string): string {
  return digestPattern.test(tagOrDigest) ? tagOrDigest : parseTag(tagOrDigest);
}

function isUnsupported({ status, ociCode }: RegistryError, name: string): boolean {
  // To registries that remove by digest alone, a tag is a bad digest.
  const isTagRefused = status === 400 && !digestPattern.test(name);
  return status === 405 || status === 501 || ociCode === "UNSUPPORTED" || isTagRefused;
}
