import { spawn } from "node:child_process";
import { createHash, type Hash } from "node:crypto";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { mkdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Transform, type TransformCallback } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";

type Scope = { signal: AbortSignal };

/** OCI content descriptor, as image-spec's descriptor.md has it. */
export interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
  platform?: Platform;
}

export interface Platform {
  os: string;
  architecture: string;
}

export interface Layer {
  descriptor: Descriptor;
  /** Digest of the layer's tar, before compression. */
  diffId: string;
}

/** The part of an image's configuration that a runtime reads, with Docker's names. */
export interface RuntimeConfig {
  Entrypoint: string[];
  Env?: string[];
  User?: string;
  WorkingDir?: string;
  Labels?: Record<string, string>;
}

/**
 * Writes an image as an OCI image layout (image-spec, image-layout.md), without a daemon. The same
 * files give the same digests: names are sorted, and owners and times are fixed.
 */
export class ImageLayout {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async create(folder: string): Promise<ImageLayout> {
    await mkdir(join(folder, "blobs/sha256"), { recursive: true });
    await writeFile(join(folder, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
    return new ImageLayout(folder);
  }

  /**
   * Adds all of a folder as one gzip layer.
   *
   * @param mtimeSeconds - time of every file: another one gives a layer of its own for equal files.
   */
  async addLayer(
    folder: string,
    { signal, mtimeSeconds = 0 }: Scope & { mtimeSeconds?: number },
  ): Promise<Layer> {
    const flags = ["--sort=name", `--mtime=@${mtimeSeconds}`, "--owner=0", "--group=0"];
    const argv = [...flags, "--numeric-owner", "--format=gnu", "-C", folder, "-cf", "-", "."];
    const tar = spawn("tar", argv, { stdio: ["ignore", "pipe", "inherit"], signal });
    const partial = join(this.folder, `partial-layer-${process.pid}-${mtimeSeconds}`);
    const uncompressed = createHash("sha256");
    const compressed = createHash("sha256");
    const ended = once(tar, "close");
    await pipeline(
      tar.stdout,
      hashing(uncompressed),
      createGzip({ level: 6 }),
      hashing(compressed),
      createWriteStream(partial),
      { signal },
    );
    const [exitCode] = await ended;
    if (exitCode !== 0) {
      await rm(partial, { force: true });
      throw new Error(`Cannot archive "${folder}": tar exited with ${exitCode}`);
    }
    const hex = compressed.digest("hex");
    const { size } = await stat(partial);
    await rename(partial, join(this.folder, "blobs/sha256", hex));
    return {
      descriptor: {
        mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
        digest: `sha256:${hex}`,
        size,
      },
      diffId: `sha256:${uncompressed.digest("hex")}`,
    };
  }

  /** Adds the configuration and manifest of an image of one platform. */
  async addImage(
    layers: readonly Layer[],
    platform: Platform,
    config: RuntimeConfig,
  ): Promise<Descriptor> {
    const configDescriptor = await this.#addJson("application/vnd.oci.image.config.v1+json", {
      created: "1970-01-01T00:00:00Z",
      ...platform,
      config,
      rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
    });
    const mediaType = "application/vnd.oci.image.manifest.v1+json";
    const manifest = await this.#addJson(mediaType, {
      schemaVersion: 2,
      mediaType,
      config: configDescriptor,
      layers: layers.map(({ descriptor }) => descriptor),
    });
    return { ...manifest, platform };
  }

  /** Writes `index.json`: what the layout as a whole is. An image of several platforms has several. */
  async finish(manifests: readonly Descriptor[]): Promise<void> {
    const mediaType = "application/vnd.oci.image.index.v1+json";
    const index = { schemaVersion: 2, mediaType, manifests };
    await writeFile(join(this.folder, "index.json"), JSON.stringify(index));
  }

  async #addJson(mediaType: string, value: unknown): Promise<Descriptor> {
    const bytes = Buffer.from(JSON.stringify(value));
    const hex = createHash("sha256").update(bytes).digest("hex");
    await writeFile(join(this.folder, "blobs/sha256", hex), bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  }
}

function hashing(hash: Hash): Transform {
  return new Transform({
    transform(chunk: Buffer, _: BufferEncoding, done: TransformCallback) {
      hash.update(chunk);
      done(null, chunk);
    },
  });
}
