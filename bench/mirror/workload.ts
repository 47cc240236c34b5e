import { hash } from "node:crypto";

import { Semaphore } from "#async/semaphore.ts";
import type { ContentTarget, Descriptor } from "#oci/content.ts";
import { formatDescriptor, mediaTypes } from "#oci/manifest.ts";
import { RandomBlob } from "./random-blob.ts";

type Scope = { signal: AbortSignal };

/** A repository that is to be copied: each tag is an image of its own layers and of those of all. */
export interface Workload {
  /** Path of the repository. */
  readonly repository: string;
  readonly tags: number;
  /** Sizes in bytes. */
  readonly sharedLayers: readonly number[];
  readonly ownLayers: readonly number[];
  /** What is done with each target: filling it, and perhaps looking whether it still has all. */
  readonly passes: readonly Pass[];
}

export type Pass = "cold" | "unchanged";

const megabyte = 1_000_000;

/** What is copied. */
export const workloads = {
  /** 512 MB in all. */
  ten: {
    repository: "bench/ten",
    tags: 10,
    sharedLayers: [128 * megabyte, 48 * megabyte, 16 * megabyte],
    ownLayers: [24 * megabyte, 8 * megabyte],
    passes: ["cold"],
  },
  thousand: {
    repository: "bench/thousand",
    tags: 1_000,
    sharedLayers: [32_000],
    ownLayers: [4_000],
    passes: ["cold", "unchanged", "unchanged"],
  },
  large: {
    repository: "bench/large",
    tags: 1,
    sharedLayers: [],
    ownLayers: [2_000 * megabyte],
    passes: ["cold"],
  },
} as const satisfies Record<string, Workload>;

export type WorkloadName = keyof typeof workloads;

/** How often each is copied by everybody, for medians. */
export const rounds: readonly { workload: WorkloadName; times: number }[] = [
  { workload: "ten", times: 3 },
  { workload: "thousand", times: 2 },
  { workload: "large", times: 2 },
];

const layerType = "application/vnd.oci.image.layer.v1.tar";
const configType = "application/vnd.oci.image.config.v1+json";

/** How many tags are written at the same time. */
const atOnce = 16;

/**
 * Fills a repository with incompressible content.
 *
 * @param seed - another one gives other content.
 */
export async function fillRepository(
  target: ContentTarget,
  { tags, sharedLayers, ownLayers }: Workload,
  seed: string,
  { signal }: Scope,
): Promise<void> {
  const shared: Descriptor[] = [];
  for (const [index, sizeBytes] of sharedLayers.entries()) {
    shared.push(await writeLayer(target, `${seed} shared ${index}`, sizeBytes, { signal }));
  }
  const slots = new Semaphore(atOnce);
  const names = Array.from({ length: tags }, (_, index) => `v${index + 1}`);
  const written = names.map(async (tag) => {
    using _slot = await slots.acquire({ signal });
    const own: Descriptor[] = [];
    for (const [index, sizeBytes] of ownLayers.entries()) {
      own.push(await writeLayer(target, `${seed} ${tag} ${index}`, sizeBytes, { signal }));
    }
    await writeImage(target, tag, [...shared, ...own], { signal });
  });
  await Promise.all(written);
}

async function writeLayer(
  target: ContentTarget,
  seed: string,
  sizeBytes: number,
  { signal }: Scope,
): Promise<Descriptor> {
  const blob = new RandomBlob(seed, sizeBytes, layerType);
  await target.writeBlob(blob.descriptor, (fromByte) => blob.chunks(fromByte), { signal });
  return blob.descriptor;
}

async function writeImage(
  target: ContentTarget,
  tag: string,
  layers: readonly Descriptor[],
  { signal }: Scope,
): Promise<void> {
  const config = jsonOf(configType, {
    os: "linux",
    architecture: "amd64",
    rootfs: { type: "layers", diff_ids: layers.map(({ digest }) => digest) },
  });
  const { mediaType, digest, bytes } = config;
  const descriptor = { mediaType, digest, sizeBytes: bytes.length };
  const chunks = async function* (fromByte: number): AsyncGenerator<Buffer, void> {
    yield bytes.subarray(fromByte);
  };
  await target.writeBlob(descriptor, chunks, { signal });
  const manifest = jsonOf(mediaTypes.ociImage, {
    schemaVersion: 2,
    mediaType: mediaTypes.ociImage,
    config: formatDescriptor(descriptor),
    layers: layers.map((layer) => formatDescriptor(layer)),
  });
  await target.putManifest(tag, manifest, { signal });
}

function jsonOf(
  mediaType: string,
  value: object,
): { mediaType: string; digest: string; bytes: Buffer } {
  const bytes = Buffer.from(JSON.stringify(value));
  return { mediaType, digest: `sha256:${hash("sha256", bytes)}`, bytes };
}
