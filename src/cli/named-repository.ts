import type {
  ContentOptions,
  ContentTarget,
  Descriptor,
  ManifestContent,
  Named,
} from "#oci/content.ts";
import { RegistryError } from "#remote/registry-error.ts";

/**
 * A registry's repository whose errors say which registry it is: of a copy that fails, people want to know
 * which side it was.
 */
export class NamedRepository implements ContentTarget {
  readonly name: string;
  readonly #host: string;
  readonly #repository: ContentTarget;

  constructor(host: string, repository: ContentTarget) {
    this.name = repository.name;
    this.#host = host;
    this.#repository = repository;
  }

  find(tagOrDigest: string, options: ContentOptions): Promise<Named | undefined> {
    return this.#tell(this.#repository.find(tagOrDigest, options));
  }

  manifest(tagOrDigest: string, options: ContentOptions): Promise<ManifestContent | undefined> {
    return this.#tell(this.#repository.manifest(tagOrDigest, options));
  }

  async *tags(options: ContentOptions): AsyncGenerator<string> {
    try {
      yield* this.#repository.tags(options);
    } catch (error) {
      throw withHost(error, this.#host);
    }
  }

  referrers(
    digest: string,
    options: ContentOptions & { readonly tags?: ReadonlySet<string> | undefined },
  ): Promise<readonly Descriptor[]> {
    return this.#tell(this.#repository.referrers(digest, options));
  }

  async *blob(
    descriptor: Descriptor,
    options: ContentOptions & { readonly fromByte?: number },
  ): AsyncGenerator<Buffer> {
    try {
      yield* this.#repository.blob(descriptor, options);
    } catch (error) {
      throw withHost(error, this.#host);
    }
  }

  hasBlob(digest: string, options: ContentOptions): Promise<boolean> {
    return this.#tell(this.#repository.hasBlob(digest, options));
  }

  mountBlob(digest: string, from: string, options: ContentOptions): Promise<boolean> {
    return this.#tell(this.#repository.mountBlob(digest, from, options));
  }

  writeBlob(
    descriptor: Descriptor,
    open: (fromByte: number) => AsyncIterable<Buffer>,
    options: ContentOptions & { readonly onProgress?: (sentBytes: number) => void },
  ): Promise<void> {
    return this.#tell(this.#repository.writeBlob(descriptor, open, options));
  }

  putManifest(
    tagOrDigest: string,
    manifest: ManifestContent,
    options: ContentOptions,
  ): Promise<void> {
    return this.#tell(this.#repository.putManifest(tagOrDigest, manifest, options));
  }

  deleteManifest(
    tagOrDigest: string,
    options: ContentOptions,
  ): Promise<"deleted" | "absent" | "unsupported"> {
    return this.#tell(this.#repository.deleteManifest(tagOrDigest, options));
  }

  async #tell<T>(answer: Promise<T>): Promise<T> {
    try {
      return await answer;
    } catch (error) {
      throw withHost(error, this.#host);
    }
  }
}

/** Puts the host before what a registry's error says, for a copy's result has nothing else of it. */
function withHost(error: unknown, host: string): unknown {
  if (!(error instanceof RegistryError) || error.reason.startsWith(`${host}: `)) return error;
  const { code, reason, retryAfterMs, status, ociCode } = error;
  const act = `ask "${host}"`;
  return new RegistryError(code, `${host}: ${reason}`, {
    act,
    retryAfterMs,
    status,
    ociCode,
    cause: error,
  });
}
