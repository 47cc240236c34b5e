import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { openRegistry } from "#sandbox/registry-hosts.ts";
import type { Programs } from "#sandbox/toolchain/build.ts";
import { cachedFolder } from "./cached-image.ts";
import { ImageLayout, type Descriptor } from "./image-layout.ts";
import { ensureNodeRoots, nodeVersion } from "./node-roots.ts";

type Scope = { signal: AbortSignal };

/** An image that the sandbox's open registry serves from the start. */
export interface FixtureImage {
  reference: string;
  /** OCI image layout. */
  folder: string;
  /** Whether it is an index with an image for each of several platforms. */
  isIndex: boolean;
}

/** The images by what they are for, as pods name them. */
export const fixtureReferences = {
  pause: `${openRegistry.host}/pause:3.10`,
  /** One static program in one layer of about 3 MB. */
  small: `${openRegistry.host}/library/hello:1`,
  /** The pinned Node with its libraries and a program: three layers, over 160 MB unpacked. */
  large: `${openRegistry.host}/library/node:26`,
  /** A small static program for two platforms. */
  index: `${openRegistry.host}/library/multi:1`,
} as const;

/** Makes the images, or finds them in the cache. */
export async function ensureFixtureImages(
  programs: Programs,
  { signal }: Scope,
): Promise<FixtureImage[]> {
  const [pause, small, index, large] = await Promise.all([
    staticImage("pause", [machine], 1, programs, { signal }),
    staticImage("hello", [machine], 1, programs, { signal }),
    // A time of its own, so that the index shares no layer with the image.
    staticImage("hello", ["amd64", "arm64"], 2, programs, { signal }),
    nodeImage(1, { signal }),
  ]);
  return [
    { reference: fixtureReferences.pause, folder: pause, isIndex: false },
    { reference: fixtureReferences.small, folder: small, isIndex: false },
    { reference: fixtureReferences.index, folder: index, isIndex: true },
    { reference: fixtureReferences.large, folder: large, isIndex: false },
  ];
}

/**
 * Makes an image like the small one that shares no layer with any other variant.
 *
 * @param variant - a whole number of at least 10.
 * @returns the folder of its OCI image layout.
 */
export async function ensureSmallVariant(
  variant: number,
  programs: Programs,
  { signal }: Scope,
): Promise<string> {
  return staticImage("hello", [machine], variant, programs, { signal });
}

const machine = process.arch === "arm64" ? "arm64" : "amd64";

/** A static program alone, for each of the architectures, in files of the given time. */
async function staticImage(
  program: "pause" | "hello",
  architectures: readonly string[],
  mtimeSeconds: number,
  programs: Programs,
  { signal }: Scope,
): Promise<string> {
  const files = architectures.map((architecture) => programs.file(`${program}-${architecture}`));
  const digests = await Promise.all(files.map(sha256OfFile));
  const build = async (folder: string): Promise<void> => {
    const layout = await ImageLayout.create(folder);
    const manifests: Descriptor[] = [];
    for (const [position, architecture] of architectures.entries()) {
      const root = join(folder, "root");
      await mkdir(root);
      await copyFile(files[position] ?? "", join(root, program));
      const layer = await layout.addLayer(root, { signal, mtimeSeconds });
      const platform = { os: "linux", architecture };
      manifests.push(await layout.addImage([layer], platform, { Entrypoint: [`/${program}`] }));
      await rm(root, { recursive: true });
    }
    await layout.finish(manifests);
  };
  return cachedFolder(
    `${program}-${architectures.join("-")}`,
    ["1", digests, mtimeSeconds],
    build,
    { signal },
  );
}

/**
 * Makes an image equal to the large one that shares no layer with it: no node has a part of it.
 *
 * @returns the folder of its OCI image layout.
 */
export async function ensureColdImage({ signal }: Scope): Promise<string> {
  return nodeImage(2, { signal });
}

/** Its files have a time of their own: equal files of Coral's image must not bring its layers. */
async function nodeImage(mtimeSeconds: number, { signal }: Scope): Promise<string> {
  const roots = await ensureNodeRoots({ signal });
  const server = `require("node:http").createServer((_, answer) => answer.end("hello\\n")).listen(8080);
process.on("SIGTERM", () => process.exit(0));
`;
  const build = async (folder: string): Promise<void> => {
    const layout = await ImageLayout.create(folder);
    const app = join(folder, "app-root");
    await mkdir(join(app, "app"), { recursive: true });
    await writeFile(join(app, "app/server.js"), server);
    const options = { signal, mtimeSeconds };
    const layers = [
      await layout.addLayer(roots.libraries, options),
      await layout.addLayer(roots.node, options),
      await layout.addLayer(app, options),
    ];
    await rm(app, { recursive: true });
    const architecture = process.arch === "arm64" ? "arm64" : "amd64";
    const image = await layout.addImage(
      layers,
      { os: "linux", architecture },
      {
        Entrypoint: ["/usr/local/bin/node", "/app/server.js"],
        User: "65532:65532",
        WorkingDir: "/app",
      },
    );
    await layout.finish([image]);
  };
  return cachedFolder(
    "node",
    ["1", nodeVersion, process.arch, server, roots, mtimeSeconds],
    build,
    { signal },
  );
}

async function sha256OfFile(file: string): Promise<string> {
  return createHash("sha256")
    .update(await readFile(file))
    .digest("hex");
}
