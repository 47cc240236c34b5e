import { parseRepository } from "#oci/reference.ts";
import { BlobFiles } from "./blob-files.ts";
import { IndexFile } from "./index-file.ts";
import { LayoutDirectory } from "./layout-directory.ts";
import { translateError } from "./layout-error.ts";
import { repositoriesOf } from "./layout-index.ts";
import { LayoutRepository, type LayoutParts } from "./layout-repository.ts";

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
    return new Layout({ path, directory, blobs, index, known: new Map() });
  }

  /**
   * One of the layout's repositories, which need not be there.
   *
   * @param name - in full, like `ghcr.io/a/b`. Without one the layout is a single repository, and its names
   *   are tags.
   * @throws {InvalidReferenceError} if it is not the name of a repository.
   */
  repository(name?: string): LayoutRepository {
    if (name === undefined) return new LayoutRepository(this.#parts, undefined);
    const { registry, path } = parseRepository(name);
    return new LayoutRepository(this.#parts, `${registry}/${path}`);
  }

  /** Lists the repositories that the layout's names tell of, in full, each once, sorted. */
  async repositories({ signal }: { signal: AbortSignal }): Promise<string[]> {
    signal.throwIfAborted();
    try {
      return repositoriesOf(await this.#parts.index.read());
    } catch (error) {
      throw translateError(error, this.#parts.path);
    }
  }
}
