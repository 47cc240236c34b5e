import { constants, type BigIntStats } from "node:fs";
import {
  lstat,
  mkdir,
  open,
  readdir,
  realpath,
  rename,
  rm,
  type FileHandle,
} from "node:fs/promises";
import { randomUUID } from "node:crypto";
import { join } from "node:path";

import { isJsonObject, parseJson } from "#json/json.ts";
import { digestPattern } from "#oci/reference.ts";
import { LayoutError, translateError } from "./layout-error.ts";

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR } = constants;

/** Beside what the specification names; ORAS keeps unfinished content under the same name. */
const ingestFolder = "ingest";

/**
 * The files of an OCI layout. Names are made of checked digests alone, and symbolic links inside are not
 * followed, so that no content leads out of the directory. The directory itself may be reached by one.
 */
export class LayoutDirectory {
  readonly path: string;
  /** Folders that are known to be folders. */
  readonly #checked = new Set<string>();

  private constructor(path: string) {
    this.path = path;
  }

  /**
   * Opens a layout.
   *
   * @param options.create - whether to make one where there is nothing, or an empty directory.
   * @throws {LayoutError}
   */
  static async open(path: string, { create }: { create: boolean }): Promise<LayoutDirectory> {
    try {
      if (create) await mkdir(path, { recursive: true });
      const directory = new LayoutDirectory(await realpath(path));
      await directory.#requireLayout(create);
      return directory;
    } catch (error) {
      throw translateError(error, path);
    }
  }

  async #requireLayout(create: boolean): Promise<void> {
    const marker = await this.readSmall(markerName, maxMarkerBytes);
    if (marker) {
      this.#requireVersion(marker);
    } else if (create && (await this.#isEmpty())) {
      await this.writeSmall(markerName, Buffer.from(layoutMarker));
    } else {
      // Somebody else may have made it in between.
      const made = await this.readSmall(markerName, maxMarkerBytes);
      if (!made) throw new LayoutError("BAD_LAYOUT", this.path, `it has no file "${markerName}"`);
      this.#requireVersion(made);
    }
  }

  async #isEmpty(): Promise<boolean> {
    const names = await readdir(this.path);
    return names.every((name) => name === ingestFolder);
  }

  #requireVersion(marker: Buffer): void {
    const value = parseJson(marker.toString());
    if (isJsonObject(value) && value["imageLayoutVersion"] === "1.0.0") return;
    throw new LayoutError("BAD_LAYOUT", this.path, "it is not of imageLayoutVersion 1.0.0");
  }

  /** Reads a file of at most so many bytes; `undefined` if it is not there. */
  async readSmall(name: string, maxBytes: number): Promise<Buffer | undefined> {
    const file = await this.#openFile(join(this.path, name));
    if (!file) return undefined;
    try {
      const { size } = await file.stat();
      if (size > maxBytes) {
        const reason = `"${name}" has more than ${maxBytes} bytes`;
        throw new LayoutError("BAD_LAYOUT", this.path, reason);
      }
      return await file.readFile();
    } finally {
      await file.close();
    }
  }

  /**
   * Writes a file at once: whoever reads it, and whenever, finds the old or the new one.
   *
   * @param onWritten - told the version of the file before anybody can read it.
   */
  async writeSmall(
    name: string,
    bytes: Uint8Array,
    onWritten?: (version: string) => void,
  ): Promise<void> {
    const temporary = await this.ingestPath(randomUUID());
    const file = await open(temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o644);
    try {
      try {
        await file.writeFile(bytes);
        await file.sync();
        onWritten?.(versionOf(await file.stat({ bigint: true })));
      } finally {
        await file.close();
      }
      await this.publish(temporary, join(this.path, name));
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }

  /** Gives a finished file its name, for good. */
  async publish(temporary: string, path: string): Promise<void> {
    await rename(temporary, path);
    const folder = await open(join(path, ".."), O_RDONLY);
    try {
      await folder.sync(); // Else a power failure may take the name back.
    } finally {
      await folder.close();
    }
  }

  /** Opens a blob for reading; `undefined` if it is not there. */
  async openBlob(digest: string): Promise<FileHandle | undefined> {
    const name = blobName(digest);
    await this.#requireFolders(name.slice(0, -1), false);
    return this.#openFile(join(this.path, ...name));
  }

  /** What file a blob is; `undefined` if it is not there. */
  async statBlob(digest: string): Promise<BlobFile | undefined> {
    const name = blobName(digest);
    await this.#requireFolders(name.slice(0, -1), false);
    const stats = await lstat(join(this.path, ...name), { bigint: true }).catch(ignoreMissing);
    if (!stats) return undefined;
    if (stats.isFile()) return { sizeBytes: Number(stats.size), version: versionOf(stats) };
    throw new LayoutError("BAD_LAYOUT", this.path, `"${name.join("/")}" is no file`);
  }

  /** Where a blob is to be put. Makes the folder for it. */
  async blobPath(digest: string): Promise<string> {
    const name = blobName(digest);
    await this.#requireFolders(name.slice(0, -1), true);
    return join(this.path, ...name);
  }

  /** A place for unfinished content. */
  async ingestPath(name: string): Promise<string> {
    await this.#requireFolders([ingestFolder], true);
    const path = join(this.path, ingestFolder, name);
    const stats = await lstatIfThere(path);
    if (stats && !stats.isFile()) {
      throw new LayoutError("BAD_LAYOUT", this.path, `"${ingestFolder}/${name}" is no file`);
    }
    return path;
  }

  /** Opens unfinished content, or begins it. */
  async openIngest(path: string): Promise<FileHandle> {
    return open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o644);
  }

  async #requireFolders(names: readonly string[], create: boolean): Promise<void> {
    let path = this.path;
    for (const name of names) {
      path = join(path, name);
      if (this.#checked.has(path)) continue;
      if (create) await mkdir(path).catch(ignoreExisting);
      const stats = await lstatIfThere(path);
      if (!stats) return;
      if (!stats.isDirectory()) {
        throw new LayoutError("BAD_LAYOUT", this.path, `"${name}" in it is no directory`);
      }
      this.#checked.add(path);
    }
  }

  async #openFile(path: string): Promise<FileHandle | undefined> {
    // Without O_NONBLOCK a named pipe would wait for its writer.
    const file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch(ignoreMissing);
    if (!file || (await file.stat()).isFile()) return file;
    await file.close();
    throw new LayoutError("BAD_LAYOUT", this.path, `"${path}" is no file`);
  }
}

/** The file that a blob is. */
export interface BlobFile {
  readonly sizeBytes: number;
  readonly version: string;
}

/** Tells one state of a file from another: it differs once the file has been replaced or written to. */
export function versionOf({ size, ino, mtimeNs }: BigIntStats): string {
  return `${ino} ${mtimeNs} ${size}`;
}

const markerName = "oci-layout";
const layoutMarker = JSON.stringify({ imageLayoutVersion: "1.0.0" });
const maxMarkerBytes = 4_096;

function blobName(digest: string): [string, string, string] {
  const [algorithm = "", hex = ""] = digest.split(":");
  // The last line of defence: nobody comes here with anything else.
  if (!digestPattern.test(digest)) throw new TypeError(`"${digest}" is no digest`);
  return ["blobs", algorithm, hex];
}

async function lstatIfThere(path: string): Promise<Awaited<ReturnType<typeof lstat>> | undefined> {
  return lstat(path).catch(ignoreMissing);
}

function ignoreMissing(error: unknown): undefined {
  if (codeOf(error) !== "ENOENT") throw error;
}

function ignoreExisting(error: unknown): void {
  if (codeOf(error) !== "EEXIST") throw error;
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
