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

/** What a running pull may still take, at most. */
export interface DiskClaim {
  /** For whom it is pulled. */
  readonly namespace: string;
  readonly bytes: number;
  /** Whether nothing has come for it for a while. */
  readonly isStill: boolean;
}

/** How much pulls may take; less than nothing if the reserve is not free. */
export function roomIn(
  { freeBytes, totalBytes }: DiskSpace,
  { reservePercent }: DiskPolicy,
): number {
  return freeBytes - (totalBytes * reservePercent) / 100;
}

/**
 * Works out for which of its namespaces an image gets most of the room, and what others have of it.
 *
 * A pull that gets on keeps all of its bytes from everybody. Those of a namespace that stand still keep
 * theirs from itself, but from others at most half of the room: how large its images are, its own
 * registry says, which may send nothing.
 */
export function shareOf(
  namespaces: readonly string[],
  claims: Iterable<DiskClaim>,
  roomBytes: number,
): { namespace: string; othersBytes: number } {
  let movingBytes = 0;
  const still = new Map<string, number>();
  for (const { namespace, bytes, isStill } of claims) {
    if (isStill) still.set(namespace, (still.get(namespace) ?? 0) + bytes);
    else movingBytes += bytes;
  }
  const mostBytes = Math.max(0, roomBytes / 2);
  const excess = (namespace: string): number =>
    Math.max(0, (still.get(namespace) ?? 0) - mostBytes);
  const namespace = namespaces.reduce((best, other) =>
    excess(other) < excess(best) ? other : best,
  );
  const boundedBytes = still.values().reduce((sum, bytes) => sum + Math.min(bytes, mostBytes), 0);
  return { namespace, othersBytes: movingBytes + boundedBytes + excess(namespace) };
}

/** Why an image would not fit, in words that stay the same while it does not; `undefined` if it does. */
export function lackOfSpace(
  { needBytes, othersBytes }: { needBytes: number; othersBytes: number },
  space: DiskSpace,
  policy: DiskPolicy,
): string | undefined {
  if (othersBytes + needBytes <= roomIn(space, policy)) return undefined;
  const { reservePercent } = policy;
  return `needs about ${megabytes(needBytes)} MB beside the ${reservePercent} % of the disk that stay free`;
}

/**
 * Estimates what a pull of an image takes on a node's disk; 0 if its size is not known.
 *
 * Which layers the node has already, only a pull finds out. They are counted too; but an image that
 * it has in another version counts as what is downloaded alone, since versions share most layers.
 * One that is less than half as large can share little, and does not count as another version.
 *
 * @param heldBytes - the size of what the node has under the image's name, as the runtime tells it.
 */
export function neededBytes(
  { sizes }: Pick<OwedImage, "sizes">,
  { node, heldBytes }: { node: Node | undefined; heldBytes: number },
  { expansion }: DiskPolicy,
): number {
  const { operatingSystem, architecture } = node?.status?.nodeInfo ?? {};
  const platform = `${operatingSystem}/${architecture}`;
  // A Node does not tell its variant; an image has one for its architecture, as a rule.
  const ofNode = sizes.filter(
    (size) => size.platform === platform || size.platform.startsWith(`${platform}/`),
  );
  const sizeBytes = Math.max(0, ...ofNode.map((size) => size.sizeBytes));
  return heldBytes >= sizeBytes / 2 ? sizeBytes : sizeBytes * expansion;
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
