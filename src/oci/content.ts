/** Points to content (OCI image-spec, "Content Descriptors"). */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly sizeBytes: number;
  /** As the descriptor says it: `linux/amd64`, `linux/arm64/v8`. */
  readonly platform?: string;
  /** What an artifact is for; of referrers. */
  readonly artifactType?: string;
  /** Where else the content is: of layers that registries may not have. */
  readonly urls?: readonly string[];
}

/** A manifest or index, byte for byte as it is stored. Its digest has been checked. */
export interface ManifestContent {
  readonly mediaType: string;
  readonly digest: string;
  readonly bytes: Buffer;
}

/** What a tag or digest names. */
export interface Named {
  readonly mediaType: string;
  readonly digest: string;
}

export interface ContentOptions {
  readonly signal: AbortSignal;
}

/**
 * What can be read of one repository, wherever it is kept: at a registry, or in an OCI layout.
 *
 * What is not there is `undefined`, never an error. Errors have a `code` and say whether trying again
 * can help (`retryable`); what may be tried again has been, within bounds.
 */
export interface ContentSource {
  /** Which repository, for people: `ghcr.io/a/b`, `oci:DIR`. */
  readonly name: string;
  /** Finds what a tag or digest names without reading it, where that is possible. */
  find(tagOrDigest: string, options: ContentOptions): Promise<Named | undefined>;
  /** Reads a manifest or index of at most 4 MiB. Its bytes are checked against its digest. */
  manifest(tagOrDigest: string, options: ContentOptions): Promise<ManifestContent | undefined>;
  /** Lists the tags, in the order of the source, page by page. */
  tags(options: ContentOptions): AsyncIterable<string>;
  /**
   * Lists what refers to a manifest by its `subject`: by the registry's API where it has one, else as
   * the fallback tag `sha256-<hex>` says.
   *
   * @param options - `tags` are those that attach something, if they are known: no other is asked for.
   */
  referrers(
    digest: string,
    options: ContentOptions & { readonly tags?: ReadonlySet<string> | undefined },
  ): Promise<readonly Descriptor[]>;
  /**
   * Opens a blob at an offset. Chunks come as they arrive, and are not to be used after the next one was
   * asked for. Only who has seen all bytes can check the digest, and must. Leaving the loop closes it.
   *
   * @throws an error of code `NOT_FOUND` if it is not there.
   */
  blob(
    descriptor: Descriptor,
    options: ContentOptions & { readonly fromByte?: number },
  ): AsyncIterable<Buffer>;
}

/** What can be written to one repository. */
export interface ContentTarget extends ContentSource {
  /** Whether a blob is there. */
  hasBlob(digest: string, options: ContentOptions): Promise<boolean>;
  /** Takes a blob over from another repository of the same registry; `false` if that is not possible. */
  mountBlob(digest: string, from: string, options: ContentOptions): Promise<boolean>;
  /**
   * Stores a blob as it is read. Bytes are hashed on their way: the blob becomes visible only if they
   * are those of its digest and size. When the target or the source breaks off, it goes on where the
   * target says that it is.
   *
   * @param open - opens the source at an offset, perhaps several times.
   * @throws {WrongContentError} if the source's bytes are not those of the descriptor.
   */
  writeBlob(
    descriptor: Descriptor,
    open: (fromByte: number) => AsyncIterable<Buffer>,
    options: ContentOptions & { readonly onProgress?: (sentBytes: number) => void },
  ): Promise<void>;
  /** Stores a manifest under its digest, or under a tag, which moves if it exists. */
  putManifest(
    tagOrDigest: string,
    manifest: ManifestContent,
    options: ContentOptions,
  ): Promise<void>;
  /**
   * Removes a manifest by its digest, with all tags that name it, or only a tag.
   *
   * @returns `unsupported` if the target does not do that.
   */
  deleteManifest(
    tagOrDigest: string,
    options: ContentOptions,
  ): Promise<"deleted" | "absent" | "unsupported">;
}

/** Content is not what its descriptor says. Only who offers it can mend that. */
export class WrongContentError extends Error {
  override readonly name = "WrongContentError";
  readonly code = "WRONG_CONTENT";
  readonly retryable = false;
  readonly digest: string;

  /** @param where - whose content, like `ghcr.io/a/b`. */
  constructor(digest: string, where: string, fault: string) {
    super(`Content of "${digest}" from ${where} is refused: ${fault}`);
    this.digest = digest;
  }
}
