import { hash } from "node:crypto";

import {
  WrongContentError,
  type ContentOptions,
  type ContentTarget,
  type Descriptor,
  type ManifestContent,
  type Named,
} from "#oci/content.ts";
import {
  fallbackTag,
  formatDescriptor,
  isForeign,
  isManifestType,
  mediaTypes,
  parseContent,
} from "#oci/manifest.ts";
import { digestPattern, parseDigest, parseTag } from "#oci/reference.ts";

/** What is asked of a repository, as its log and its faults name it. */
export type Act =
  | "find"
  | "manifest"
  | "tags"
  | "referrers"
  | "blob"
  | "hasBlob"
  | "mountBlob"
  | "writeBlob"
  | "putManifest"
  | "deleteManifest";

/** What registries remove: not all of them remove a tag alone, and some remove nothing unless they are told to. */
export type Removes = "tags and digests" | "digests" | "nothing";

/** A registry in memory: repositories that may take blobs over from one another. */
export class FakeRegistry {
  readonly host: string;
  /** Whether it answers the referrers API; else only fallback tags tell. */
  readonly hasReferrersApi: boolean;
  readonly removes: Removes;
  readonly #repositories = new Map<string, FakeRepository>();

  constructor(
    host = "registry.test",
    options: { readonly hasReferrersApi?: boolean; readonly removes?: Removes } = {},
  ) {
    const { hasReferrersApi = true, removes = "tags and digests" } = options;
    this.host = host;
    this.hasReferrersApi = hasReferrersApi;
    this.removes = removes;
  }

  repository(path: string): FakeRepository {
    const repository = this.#repositories.get(path) ?? new FakeRepository(this, path);
    this.#repositories.set(path, repository);
    return repository;
  }
}

/** A failure as a registry client's is. */
export class FakeError extends Error {
  readonly code: string;
  readonly retryable: boolean;
  readonly reason: string;
  readonly retryAfterMs?: number;

  constructor(
    code: string,
    options: { retryable?: boolean; reason?: string; retryAfterMs?: number } = {},
  ) {
    super(`Cannot do it: ${code}`);
    this.code = code;
    this.retryable = options.retryable ?? false;
    this.reason = options.reason ?? "as the test wants it";
    if (options.retryAfterMs !== undefined) this.retryAfterMs = options.retryAfterMs;
  }
}

/**
 * A repository in memory. Like a registry it refuses manifests with unknown content, so that the order of
 * what is written is tested, too. What it is asked it notes in `log`.
 */
export class FakeRepository implements ContentTarget {
  readonly name: string;
  readonly path: string;
  /** What was asked, like `manifest latest`, in order. */
  readonly log: string[] = [];
  /** Bytes of blobs that were sent to it. */
  receivedBytes = 0;
  /** How many blobs are on their way to it, and how many there were at most. */
  readonly writing = { now: 0, most: 0 };
  readonly #registry: FakeRegistry;
  readonly #blobs = new Map<string, Buffer>();
  readonly #manifests = new Map<string, ManifestContent>();
  readonly #tags = new Map<string, string>();
  readonly #faults = new Map<string, { error: Error; times: number }>();
  readonly #breaks = new Map<string, { atByte: number; error: Error; times: number }>();
  readonly #holds = new Map<string, Promise<void>>();

  constructor(registry: FakeRegistry = new FakeRegistry(), path = "org/app") {
    this.#registry = registry;
    this.path = path;
    this.name = `${registry.host}/${path}`;
  }

  // What tests put in and look at.

  /** Puts a blob in, and says how to name it. */
  addBlob(
    content: string | Buffer,
    mediaType = "application/vnd.oci.image.layer.v1.tar",
  ): Descriptor {
    const bytes = Buffer.from(content);
    const digest = `sha256:${hash("sha256", bytes)}`;
    this.#blobs.set(digest, bytes);
    return { mediaType, digest, sizeBytes: bytes.length };
  }

  /** Puts a manifest in as it is, and whatever it names need not be there. */
  addManifest(value: object, { tag = "", mediaType = typeOf(value) } = {}): Descriptor {
    const bytes = Buffer.from(JSON.stringify(value));
    const digest = `sha256:${hash("sha256", bytes)}`;
    this.#manifests.set(digest, { mediaType, digest, bytes });
    if (tag !== "") this.#tags.set(tag, digest);
    return { mediaType, digest, sizeBytes: bytes.length };
  }

  /** Has other bytes come where a blob is read. */
  corruptBlob(digest: string, bytes: string): void {
    this.#blobs.set(digest, Buffer.from(bytes));
  }

  removeBlob(digest: string): void {
    this.#blobs.delete(digest);
  }

  removeTag(tag: string): void {
    this.#tags.delete(tag);
  }

  /** Has an act fail for a tag or digest. */
  fail(act: Act, subject: string, error: Error, times = Infinity): void {
    this.#faults.set(`${act} ${subject}`, { error, times });
  }

  /** Has a blob's stream end in an error when it has given so many bytes. */
  breakBlob(digest: string, atByte: number, error: Error, times = 1): void {
    this.#breaks.set(digest, { atByte, error, times });
  }

  /** Has whoever reads a blob wait until the result is called. */
  holdBlob(digest: string): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#holds.set(digest, promise);
    return resolve;
  }

  /** Every digest that it has, sorted. */
  digests(): string[] {
    return [...this.#blobs.keys(), ...this.#manifests.keys()].sort();
  }

  /** What a tag names. */
  tagged(tag: string): string | undefined {
    return this.#tags.get(tag);
  }

  /** A manifest as it was put in. */
  textOf(digest: string): string {
    return this.#manifests.get(digest)?.bytes.toString() ?? "";
  }

  /** What was asked of one kind: `asked("blob")` lists digests. */
  asked(act: Act): string[] {
    return this.log
      .filter((line) => line.startsWith(`${act} `))
      .map((line) => line.slice(act.length + 1));
  }

  // The contract.

  async find(tagOrDigest: string, { signal }: ContentOptions): Promise<Named | undefined> {
    requireName(tagOrDigest);
    this.#note("find", tagOrDigest, signal);
    const content = this.#content(tagOrDigest);
    return content && { mediaType: content.mediaType, digest: content.digest };
  }

  async manifest(
    tagOrDigest: string,
    { signal }: ContentOptions,
  ): Promise<ManifestContent | undefined> {
    requireName(tagOrDigest);
    this.#note("manifest", tagOrDigest, signal);
    return this.#content(tagOrDigest);
  }

  async *tags({ signal }: ContentOptions): AsyncGenerator<string> {
    this.#note("tags", "", signal);
    yield* [...this.#tags.keys()].sort();
  }

  async referrers(
    digest: string,
    { signal, tags }: ContentOptions & { readonly tags?: ReadonlySet<string> | undefined },
  ): Promise<readonly Descriptor[]> {
    this.#note("referrers", digest, signal);
    const isAsked = this.#registry.hasReferrersApi || !tags || tags.has(fallbackTag(digest));
    return isAsked ? this.#referrersOf(digest) : [];
  }

  async *blob(
    { digest }: Descriptor,
    { signal, fromByte = 0 }: ContentOptions & { readonly fromByte?: number },
  ): AsyncGenerator<Buffer> {
    this.#note("blob", digest, signal);
    await this.#holds.get(digest);
    signal.throwIfAborted();
    const bytes = this.#blobs.get(digest);
    if (!bytes) throw new FakeError("NOT_FOUND");
    const fault = this.#breaks.get(digest);
    const end = fault && fault.times-- > 0 ? fault.atByte : bytes.length;
    const chunkBytes = Math.max(4, Math.ceil(bytes.length / 64)); // Small blobs come in pieces, too.
    for (let at = fromByte; at < end; at += chunkBytes) {
      signal.throwIfAborted();
      yield Buffer.from(bytes.subarray(at, Math.min(at + chunkBytes, end)));
    }
    if (fault && end < bytes.length) throw fault.error;
  }

  async hasBlob(digest: string, { signal }: ContentOptions): Promise<boolean> {
    parseDigest(digest);
    this.#note("hasBlob", digest, signal);
    return this.#blobs.has(digest);
  }

  async mountBlob(digest: string, from: string, { signal }: ContentOptions): Promise<boolean> {
    this.#note("mountBlob", digest, signal);
    const bytes = this.#registry.repository(from).#blobs.get(digest);
    if (bytes) this.#blobs.set(digest, bytes);
    return bytes !== undefined;
  }

  async writeBlob(
    { digest, sizeBytes }: Descriptor,
    open: (fromByte: number) => AsyncIterable<Buffer>,
    { signal, onProgress }: ContentOptions & { readonly onProgress?: (sentBytes: number) => void },
  ): Promise<void> {
    this.#note("writeBlob", digest, signal);
    this.writing.most = Math.max(this.writing.most, ++this.writing.now);
    try {
      const parts: Buffer[] = [];
      let offset = 0;
      for (let reopens = 0; reopens <= maxReopens && offset < sizeBytes; reopens++) {
        try {
          for await (const chunk of open(offset)) {
            signal.throwIfAborted();
            parts.push(Buffer.from(chunk));
            offset += chunk.length;
            this.receivedBytes += chunk.length;
            onProgress?.(offset);
            if (offset > sizeBytes) break;
          }
        } catch (error) {
          signal.throwIfAborted();
          const isRetryable = error instanceof Error && "retryable" in error && error.retryable;
          if (isRetryable !== true || reopens === maxReopens) throw error;
        }
      }
      const bytes = Buffer.concat(parts);
      const [algorithm = "", hex] = digest.split(":");
      if (bytes.length !== sizeBytes || hash(algorithm, bytes) !== hex) {
        throw new WrongContentError(digest, "its source", "its bytes have another digest or size");
      }
      this.#blobs.set(digest, bytes);
    } finally {
      this.writing.now--;
    }
  }

  async putManifest(
    tagOrDigest: string,
    content: ManifestContent,
    { signal }: ContentOptions,
  ): Promise<void> {
    requireName(tagOrDigest);
    this.#note("putManifest", tagOrDigest, signal);
    const [algorithm = "", hex] = content.digest.split(":");
    if (hash(algorithm, content.bytes) !== hex) {
      throw new WrongContentError(content.digest, this.name, "its bytes have another digest");
    }
    const parsed = parseContent(content);
    const named =
      parsed.kind === "index"
        ? parsed.children
        : [...(parsed.config ? [parsed.config] : []), ...parsed.layers];
    for (const descriptor of named) {
      const isKnown = isManifestType(descriptor.mediaType)
        ? this.#manifests.has(descriptor.digest)
        : isForeign(descriptor) || this.#blobs.has(descriptor.digest);
      if (!isKnown)
        throw new FakeError("BAD_ANSWER", { reason: `BLOB_UNKNOWN: ${descriptor.digest}` });
    }
    this.#manifests.set(content.digest, { ...content, bytes: Buffer.from(content.bytes) });
    if (!digestPattern.test(tagOrDigest)) this.#tags.set(tagOrDigest, content.digest);
    if (parsed.subject && !this.#registry.hasReferrersApi) {
      this.#list(parsed.subject.digest, content, parsed.artifactType);
    }
  }

  /** Notes a referrer under the fallback tag, as clients do where there is no API. */
  #list(subject: string, content: ManifestContent, artifactType?: string): void {
    const listed = this.#referrersOf(subject);
    if (listed.some(({ digest }) => digest === content.digest)) return;
    const { mediaType, digest, bytes } = content;
    const type = artifactType !== undefined && { artifactType };
    const all = [...listed, { mediaType, digest, sizeBytes: bytes.length, ...type }];
    const manifests = all.map((referrer) => formatDescriptor(referrer));
    const value = { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests };
    this.addManifest(value, { tag: fallbackTag(subject) });
  }

  async deleteManifest(
    tagOrDigest: string,
    { signal }: ContentOptions,
  ): Promise<"deleted" | "absent" | "unsupported"> {
    requireName(tagOrDigest);
    this.#note("deleteManifest", tagOrDigest, signal);
    const { removes } = this.#registry;
    const isTag = !digestPattern.test(tagOrDigest);
    if (removes === "nothing" || (isTag && removes === "digests")) return "unsupported";
    if (!this.#content(tagOrDigest)) return "absent";
    if (isTag) return this.#tags.delete(tagOrDigest) ? "deleted" : "absent";
    this.#manifests.delete(tagOrDigest);
    for (const [tag, digest] of this.#tags) if (digest === tagOrDigest) this.#tags.delete(tag);
    return "deleted";
  }

  #referrersOf(digest: string): readonly Descriptor[] {
    if (!this.#registry.hasReferrersApi) {
      const fallback = this.#content(fallbackTag(digest));
      const parsed = fallback && parseContent(fallback);
      return parsed?.kind === "index" ? parsed.children : [];
    }
    return [...this.#manifests.values()].flatMap((content) => {
      const { subject, artifactType } = parseContent(content);
      if (subject?.digest !== digest) return [];
      const { mediaType, digest: found, bytes } = content;
      const type = artifactType !== undefined && { artifactType };
      return [{ mediaType, digest: found, sizeBytes: bytes.length, ...type }];
    });
  }

  #content(tagOrDigest: string): ManifestContent | undefined {
    return this.#manifests.get(this.#tags.get(tagOrDigest) ?? tagOrDigest);
  }

  #note(act: Act, subject: string, signal: AbortSignal): void {
    signal.throwIfAborted();
    this.log.push(`${act} ${subject}`);
    const fault = this.#faults.get(`${act} ${subject}`);
    if (fault && fault.times-- > 0) throw fault.error;
  }
}

const maxReopens = 3;

function requireName(tagOrDigest: string): void {
  if (!digestPattern.test(tagOrDigest)) parseTag(tagOrDigest);
}

function typeOf(value: object): string {
  if ("mediaType" in value && typeof value.mediaType === "string") return value.mediaType;
  return "manifests" in value ? mediaTypes.ociIndex : mediaTypes.ociImage;
}
