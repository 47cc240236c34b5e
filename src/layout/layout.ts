import { parseRepository } from "#oci/reference.ts";
import { BlobFiles } from "./blob-files.ts";
import { IndexFile } from "./index-file.ts";
import { LayoutDirectory } from "./layout-directory.ts";
import { translateError } from "./layout-error.ts";
import { LayoutRepository, type LayoutParts } from "./layout-repository.ts";
import { ManifestFiles } from "./manifest-files.ts";

/** How long another process may hold a new layout's index, which it writes in no time. */
const createTimeoutMs = 60_000;

/**
 * An OCI layout: a directory that keeps what a registry would (image-spec 1.1), of one repository or of
 * several.
 *
 * ```ts
 * const layout = await Layout.open("/media/usb/images", { create: true });
 * const target = layout.repository("ghcr.io/org/app");
 * ```
 *
 * Several processes may write to one directory at the same time. A process that is killed leaves blobs
 * that nothing names, and unfinished ones that the next writer goes on with; never a name without its
 * manifest.
 */
export class Layout {
  readonly #parts: LayoutParts;

  private constructor(parts: LayoutParts) {
    this.#parts = parts;
  }

  /**
   * Opens a layout.
   *
   * @param options.create - whether to make one where there is nothing, or an empty directory.
   * @throws {LayoutError} if there is none, or it is not what the specification says.
   */
  static async open(path: string, { create = false } = {}): Promise<Layout> {
    const directory = await LayoutDirectory.open(path, { create });
    const [blobs, index] = [new BlobFiles(directory), new IndexFile(directory)];
    try {
      if (create) await index.create({ signal: AbortSignal.timeout(createTimeoutMs) });
    } catch (error) {
      throw translateError(error, path);
    }
    const manifests = new ManifestFiles(directory, blobs);
    return new Layout({ path, blobs, manifests, index });
  }

  /**
   * One of the layout's repositories, which need not be there.
   *
   * @param name - in full, like `ghcr.io/a/b`. Without one the layout is a single repository, and its names
   *   are tags.
   * @throws {InvalidReferenceError} if it is not the name of a repository.
   */
  repository(name?: string): LayoutRepository {
    return new LayoutRepository(this.#parts, fullName(name), { isSource: false });
  }

  /** One of the layout's repositories to copy from: it finds what is damaged, too, and then says so. */
  source(name?: string): LayoutRepository {
    return new LayoutRepository(this.#parts, fullName(name), { isSource: true });
  }

  /** Lists the repositories that the layout's names tell of, in full, each once, sorted. */
  async repositories({ signal }: { signal: AbortSignal }): Promise<string[]> {
    signal.throwIfAborted();
    try {
      return (await this.#parts.index.read()).repositories();
    } catch (error) {
      throw translateError(error, this.#parts.path);
    }
  }
}

function fullName(name: string | undefined): string | undefined {
  if (name === undefined) return undefined;
  const { registry, path } = parseRepository(name);
  return `${registry}/${path}`;
}
