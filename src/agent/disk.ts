import { statfs } from "node:fs/promises";

import type { ImageFilesystem } from "#cri/runtime-client.ts";
import type { Node } from "#kube/types.ts";
import type { OwedImage } from "./owed.ts";

/** A file system, as far as it can be seen. */
export interface DiskSpace {
  readonly freeBytes: number;
  readonly totalBytes: number;
}

/** Where an agent sees how much room the runtime has. */
export interface DiskSource {
  /** Returns the room for images; `undefined` if it cannot be seen from here. Never throws but when aborted. */
  space(options: { signal: AbortSignal }): Promise<DiskSpace | undefined>;
}

/** How much room a pull is given. */
export interface DiskPolicy {
  /** What an image takes on disk, as a multiple of what is downloaded. */
  readonly expansion: number;
  /** What stays free of the whole file system, in percent. */
  readonly reservePercent: number;
}

/** Why an image would not fit, in words that stay the same while it does not; `undefined` if it does. */
export function lackOfSpace(
  { needBytes, othersBytes }: { needBytes: number; othersBytes: number },
  { freeBytes, totalBytes }: DiskSpace,
  { reservePercent }: DiskPolicy,
): string | undefined {
  const reserveBytes = (totalBytes * reservePercent) / 100;
  if (freeBytes - othersBytes - needBytes >= reserveBytes) return undefined;
  return `needs about ${megabytes(needBytes)} MB beside the ${reservePercent} % of the disk that stay free`;
}

/**
 * Estimates what a pull of an image takes on a node's disk; 0 if its size is not known.
 *
 * Layers that the node has already are counted too: which ones they are, only a pull finds out.
 */
export function neededBytes(
  { sizes }: Pick<OwedImage, "sizes">,
  node: Node | undefined,
  { expansion }: DiskPolicy,
): number {
  const { operatingSystem, architecture } = node?.status?.nodeInfo ?? {};
  const platform = `${operatingSystem}/${architecture}`;
  // A Node does not tell its variant; an image has one for its architecture, as a rule.
  const ofNode = sizes.filter(
    (size) => size.platform === platform || size.platform.startsWith(`${platform}/`),
  );
  return Math.max(0, ...ofNode.map(({ sizeBytes }) => sizeBytes)) * expansion;
}

function megabytes(bytes: number): string {
  return String(Math.ceil(bytes / 1_000_000));
}

/** The `f_type` of overlay file systems (linux/magic.h). */
const overlayMagic = 0x79_4c_76_30;

/** What `statfs` says of a path. */
type ReadFilesystem = (path: string) => Promise<{
  readonly type: number;
  readonly bsize: number;
  readonly blocks: number;
  readonly bavail: number;
}>;

/**
 * Sees the room that the runtime has without a mount of its folders, which hold every tenant's images.
 *
 * The runtime tells where its images lie, but not what is free there. If that folder can be seen, it
 * is asked; else the agent's own root: the runtime has unpacked the agent's image, too, and overlayfs
 * answers for the file system that its layers lie on. Other snapshotters (devmapper, blockfile) give a
 * container a small disk of its own, which tells nothing: then nothing is known.
 */
export function runtimeDisk(
  runtime: { imageFsInfo(options: { signal: AbortSignal }): Promise<ImageFilesystem[]> },
  readFilesystem: ReadFilesystem = statfs,
): DiskSource {
  const spaceAt = async (
    path: string,
    isTelling: (type: number) => boolean = () => true,
  ): Promise<DiskSpace | undefined> => {
    try {
      const { type, bsize, blocks, bavail } = await readFilesystem(path);
      if (!isTelling(type)) return undefined;
      return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
    } catch {
      return undefined; // Not there, in a container.
    }
  };
  const imageFolder = async (signal: AbortSignal): Promise<string | undefined> => {
    try {
      const [filesystem] = await runtime.imageFsInfo({ signal });
      return filesystem?.mountpoint;
    } catch {
      signal.throwIfAborted();
      return undefined;
    }
  };
  return {
    async space({ signal }) {
      const folder = await imageFolder(signal);
      const seen = folder?.startsWith("/") ? await spaceAt(folder) : undefined;
      return seen ?? (await spaceAt("/", (type) => type === overlayMagic));
    },
  };
}
