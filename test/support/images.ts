import type { Descriptor } from "#oci/content.ts";
import { formatDescriptor, mediaTypes } from "#oci/manifest.ts";
import type { FakeRepository } from "./fake-repository.ts";

/** The type of configurations of images. */
export const configType = "application/vnd.oci.image.config.v1+json";

export interface ImageOptions {
  tag?: string;
  subject?: Descriptor;
  artifactType?: string;
}

/** Puts an image of these layers in; its configuration says what makes it different. */
export function addImage(
  repository: FakeRepository,
  layers: readonly string[],
  { tag = "", subject, artifactType }: ImageOptions = {},
): Descriptor {
  const config = repository.addBlob(
    JSON.stringify({ os: "linux", architecture: "amd64", layers }),
    configType,
  );
  const value = {
    schemaVersion: 2,
    mediaType: mediaTypes.ociImage,
    config: formatDescriptor(config),
    layers: layers.map((layer) => formatDescriptor(repository.addBlob(layer))),
    ...(artifactType !== undefined && { artifactType }),
    ...(subject && { subject: formatDescriptor(subject) }),
  };
  return repository.addManifest(value, { tag });
}

export interface Child {
  descriptor: Descriptor;
  platform?: string;
  annotations?: Record<string, string>;
}

/** Puts an index in. */
export function addIndex(
  repository: FakeRepository,
  tag: string,
  children: readonly Child[],
): Descriptor {
  const manifests = children.map(({ descriptor, platform, annotations = {} }) => {
    const [os, architecture, variant] = platform?.split("/") ?? [];
    return {
      ...formatDescriptor(descriptor, annotations),
      ...(platform !== undefined && {
        platform: { os, architecture, ...(variant && { variant }) },
      }),
    };
  });
  const value = { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests };
  return repository.addManifest(value, { tag });
}
